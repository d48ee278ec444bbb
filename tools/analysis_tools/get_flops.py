"""Counts parameters and multiply-adds of a config.

One multiply-add counts as one FLOP, as in the tables of papers.
"""

import argparse
import math
from typing import Any

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config, DictAction
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table
from torch import nn

import mmfaseg  # noqa: F401  makes mmseg importable on this stack


def parse_args() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        default=(512, 512),
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the picture in pixels',
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
    """Backbone and head of a segmentor, from a picture to class and mask."""

    def __init__(self, segmentor: nn.Module) -> None:
        super().__init__()
        self.backbone = segmentor.backbone
        self.decode_head = segmentor.decode_head

    def forward(self, inputs: torch.Tensor) -> Any:
        """Return what the head returns."""
        from mmseg.models import Mask2FormerHead
        from mmseg.structures import SegDataSample

        feats = self.backbone(inputs)
        if isinstance(self.decode_head, Mask2FormerHead):
            size = tuple(inputs.shape[2:])
            sample = SegDataSample(metainfo=dict(img_shape=size))
            return self.decode_head(feats, [sample])
        return self.decode_head(feats)


def count(cfg: Config, shape: tuple[int, int]) -> FlopAnalyzer:
    """Return mmengine's counter over the model of a config."""
    from mmseg.registry import MODELS

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


def main() -> None:
    """Print a table by part of the model and one by operator."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    analyzer = count(cfg, tuple(args.shape))
    model = analyzer._model
    by_module = analyzer.by_module()
    console = Console()
    table = Table('part', 'parameters, M', 'FLOPs, G')
    for name in (
        'backbone',
        'decode_head.pixel_decoder',
        'decode_head.transformer_decoder',
        '',
    ):
        parameters = sum(
            x.numel() for x in model.get_submodule(name).parameters()
        )
        table.add_row(
            name or 'all',
            f'{parameters / 1e6:.2f}',
            f'{by_module[name] / 1e9:.2f}',
        )
    console.print(table)
    table = Table('operator', 'FLOPs, G')
    for name, flops in analyzer.by_operator().most_common():
        table.add_row(name, f'{flops / 1e9:.2f}')
    console.print(table)
    height, width = args.shape
    console.print(f'one picture of {height}x{width}')


if __name__ == '__main__':
    main()
