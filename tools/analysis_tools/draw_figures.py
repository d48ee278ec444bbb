"""Draws predictions and query focus (predictions.png and focus.png)."""

import argparse

from mmengine.device import get_device
from mmengine.registry import DATASETS

from mmfaseg.utils.command_line import (
    add_cfg_options,
    exit_on_user_errors,
    hide_known_warnings,
    load_config,
)
from mmfaseg.utils.config_classes import split_dataset


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file or name')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out',
        default='figures',
        metavar='DIR',
        help='output folder (default: %(default)s)',
    )
    parser.add_argument(
        '--split',
        choices=['val', 'test'],
        default='val',
        help='dataset split (default: %(default)s)',
    )
    parser.add_argument(
        '--indices',
        nargs='+',
        type=int,
        metavar='I',
        help='indices of images (default: six images at even intervals)',
    )
    parser.add_argument(
        '--device', default=get_device(), help='for example cpu or cuda:1'
    )
    add_cfg_options(parser, 'val_dataloader.dataset.length=100')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Draws the figures and prints the paths of the files."""
    hide_known_warnings()
    from mmfaseg.apis.model import load_network
    from mmfaseg.visualization import write_figures

    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    with exit_on_user_errors():
        model, _ = load_network(cfg, args.checkpoint, args.device)
        dataset = DATASETS.build(split_dataset(cfg, args.split))
        for path in write_figures(model, dataset, args.out, args.indices):
            print(f'wrote {path}')


if __name__ == '__main__':
    main()
