"""Draws predictions.png and focus.png of a trained network."""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import BaseModel, revert_sync_batchnorm

from mmfaseg.utils.command_line import (
    add_cfg_options,
    hide_known_warnings,
    load_config,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', default='drawn', metavar='DIR', help='where the PNGs go'
    )
    parser.add_argument(
        '--split',
        choices=['val', 'test'],
        default='val',
        help='which data set of the config to draw from',
    )
    parser.add_argument(
        '--indices',
        nargs='+',
        type=int,
        metavar='I',
        help='numbers of the images; six spread over the data set if left out',
    )
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='cpu, cuda or cuda:N',
    )
    add_cfg_options(parser, 'val_dataloader.dataset.length=100')
    return parser.parse_args(argv)


def load_network(cfg: Config, checkpoint: str, device: str) -> BaseModel:
    """Return the network of a config of mmseg or mmdet, trained."""
    if 'panoptic_head' in cfg.model:
        from mmdet.apis import init_detector

        return init_detector(cfg, checkpoint, device=device)
    from mmseg.apis import init_model

    return init_model(cfg, checkpoint, device)


def main(argv: list[str] | None = None) -> list[Path]:
    """Draw as the command line says; return the files written."""
    hide_known_warnings()
    from mmengine.registry import DATASETS, init_default_scope

    from mmfaseg.visualization import write_report

    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    model = load_network(cfg, args.checkpoint, args.device)
    if args.device == 'cpu':
        model = revert_sync_batchnorm(model)
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
    written = write_report(model, dataset, args.out, args.indices)
    for path in written:
        print(f'wrote {path}')
    return written


if __name__ == '__main__':
    main()
