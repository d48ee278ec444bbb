"""Counts parameters and multiply-adds of configs.

One multiply-add counts as one FLOP, as in the tables of papers. One config
gives a table by part and one by operator, several give one row each. Heads
that only training needs are not counted.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config, DictAction
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table
from torch import nn

from mmfaseg.ops import use_backend  # makes mmseg importable too


def parse_args() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help="size of the image in pixels; by default the config's "
        'crop_size, padded to a multiple of 32',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the config',
    )
    return parser.parse_args()


def count_attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Return the multiply-adds of scaled_dot_product_attention.

    mmengine's counter knows the products that attention is made of, not the
    fused operator.
    """
    query, key, value = (x.type().sizes() for x in inputs[:3])
    pairs = math.prod(query[:-1]) * key[-2]
    return pairs * (query[-1] + value[-1])


class Network(nn.Module):
    """Backbone and head of a network, from an image to class and mask.

    Args:
        model: a segmentor, with a ``decode_head``, or a detector, with a
            ``panoptic_head``; here both are called ``head``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model.backbone
        is_detector = hasattr(model, 'panoptic_head')
        self.head = model.panoptic_head if is_detector else model.decode_head

    def forward(self, inputs: torch.Tensor) -> Any:
        """Return what the head returns."""
        from mmdet.models import Mask2FormerHead
        from mmseg.structures import SegDataSample

        feats = self.backbone(inputs)
        if isinstance(self.head, Mask2FormerHead):  # mmseg's is one, too
            size = tuple(inputs.shape[2:])
            sample = SegDataSample(metainfo=dict(img_shape=size))
            return self.head(feats, [sample])
        with use_backend('reference'):  # whose parts the counter knows
            return self.head(feats)


def load(path: str, options: dict[str, Any]) -> Config:
    """Return the config of a file with the command line's settings in it."""
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options)
    return cfg


def image_size(cfg: Config) -> tuple[int, int]:
    """Return height and width of the config's crop, padded to 32.

    Raises:
        ValueError: If the config names no crop.
    """
    if 'crop_size' not in cfg:
        raise ValueError(
            f'{cfg.filename} has no crop_size: give --shape HEIGHT WIDTH'
        )
    height, width = (math.ceil(x / 32) * 32 for x in cfg.crop_size)
    return height, width


def count(cfg: Config, shape: tuple[int, int]) -> FlopAnalyzer:
    """Return mmengine's counter over the model of a config."""
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    cfg.model.backbone.init_cfg = None
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    analyzer = FlopAnalyzer(
        Network(model).eval(), (torch.randn(1, 3, *shape),)
    )
    analyzer.set_op_handle(
        'aten::scaled_dot_product_attention', count_attention
    )
    analyzer.unsupported_ops_warnings(False)
    analyzer.uncalled_modules_warnings(False)
    return analyzer


def count_parameters(analyzer: FlopAnalyzer, part: str = '') -> int:
    """Return the number of parameters of a part, trained or frozen."""
    module = analyzer._model.get_submodule(part)
    return sum(x.numel() for x in module.parameters())


def print_parts(analyzer: FlopAnalyzer, shape: tuple[int, int]) -> None:
    """Print a table by part of the model and one by operator."""
    by_module = analyzer.by_module()
    console = Console()
    table = Table('part', 'parameters, M', 'FLOPs, G')
    for name in (
        'backbone',
        'head.pixel_decoder',
        'head.transformer_decoder',
        '',
    ):
        table.add_row(
            name or 'all',
            f'{count_parameters(analyzer, name) / 1e6:.2f}',
            f'{by_module[name] / 1e9:.2f}',
        )
    console.print(table)
    table = Table('operator', 'FLOPs, G')
    for name, flops in analyzer.by_operator().most_common():
        table.add_row(name, f'{flops / 1e9:.2f}')
    console.print(table)
    console.print(f'one image of {shape[0]}x{shape[1]}')


def print_row(
    name: str, analyzer: FlopAnalyzer, shape: tuple[int, int]
) -> None:
    """Print one row of a Markdown table."""
    print(
        f'| {name} | {shape[0]}x{shape[1]} '
        f'| {count_parameters(analyzer) / 1e6:.2f} '
        f'| {analyzer.total() / 1e9:.2f} |',
        flush=True,
    )


def main() -> None:
    """Print what the command line asks for."""
    args = parse_args()
    several = len(args.configs) > 1
    if several:
        print('| config | image | parameters, M | FLOPs, G |')
        print('|---|---|---|---|')
    for path in args.configs:
        cfg = load(path, args.cfg_options)
        shape = tuple(args.shape or image_size(cfg))
        analyzer = count(cfg, shape)
        if several:
            print_row(Path(path).stem, analyzer, shape)
        else:
            print_parts(analyzer, shape)


if __name__ == '__main__':
    main()
