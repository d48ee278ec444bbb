"""Counts the parameters and multiply-adds of configs.

One multiply-add counts as one FLOP, as in most papers. For a single config,
prints tables by module and by operator; for several configs, one row each.
Auxiliary heads are not counted.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from grid import rich_table
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from torch import nn

from mmfaseg.ops import use_backend
from mmfaseg.utils.command_line import (
    add_cfg_options,
    exit_on_user_errors,
    hide_known_warnings,
    load_config,
    positive_int,
)
from mmfaseg.utils.input_channels import input_channels

MODULES = (
    *('backbone', 'neck'),
    *('head.pixel_decoder', 'head.transformer_decoder', ''),
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'configs', nargs='+', metavar='CONFIG', help='config files or names'
    )
    parser.add_argument(
        '--shape',
        type=positive_int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='image size in pixels (default: crop_size of the config, padded '
        'to a multiple of 32)',
    )
    add_cfg_options(parser, 'model.decode_head.num_queries=50')
    return parser.parse_args(argv)


def count_attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Returns the multiply-adds of scaled_dot_product_attention.

    mmengine does not support the fused operator.
    """
    query, key, value = (x.type().sizes() for x in inputs[:3])
    pairs = math.prod(query[:-1]) * key[-2]
    return pairs * (query[-1] + value[-1])


class Network(nn.Module):
    """Backbone and head of a model, from images to class and mask logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else nn.Identity()
        is_detector = hasattr(model, 'panoptic_head')
        self.head = model.panoptic_head if is_detector else model.decode_head

    def forward(self, inputs: torch.Tensor) -> Any:
        """Returns the output of the head."""
        from mmdet.models import Mask2FormerHead
        from mmseg.structures import SegDataSample

        feats = self.neck(self.backbone(inputs))
        if isinstance(self.head, Mask2FormerHead):  # or mmseg's subclass
            size = tuple(inputs.shape[2:])
            sample = SegDataSample(metainfo=dict(img_shape=size))
            return self.head(feats, [sample])
        with use_backend('reference'):  # supported by the analyzer
            return self.head(feats)


def image_size(cfg: Config) -> tuple[int, int]:
    """Returns height and width of the crop, padded to multiples of 32.

    Raises:
        ValueError: if the config has no ``crop_size``.
    """
    if 'crop_size' not in cfg:
        raise ValueError(
            f'{cfg.filename} has no crop_size: give --shape HEIGHT WIDTH'
        )
    height, width = (math.ceil(x / 32) * 32 for x in cfg.crop_size)
    return height, width


def analyze(cfg: Config, shape: tuple[int, int]) -> FlopAnalyzer:
    """Returns mmengine's analyzer for the model of a config."""
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    cfg.model.backbone.init_cfg = None
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    image = torch.randn(1, input_channels(cfg.model), *shape)
    analyzer = FlopAnalyzer(Network(model).eval(), (image,))
    analyzer.set_op_handle(
        'aten::scaled_dot_product_attention', count_attention
    )
    analyzer.unsupported_ops_warnings(False)
    analyzer.uncalled_modules_warnings(False)
    return analyzer


def count_parameters(analyzer: FlopAnalyzer, module: str = '') -> str:
    """Returns the number of all parameters in millions."""
    parameters = analyzer._model.get_submodule(module).parameters()
    return f'{sum(x.numel() for x in parameters) / 1e6:.2f}'


def main(argv: list[str] | None = None) -> None:
    """Prints the tables."""
    hide_known_warnings()
    args = parse_args(argv)
    is_single = len(args.configs) == 1
    if not is_single:
        print('| config | image | parameters, M | FLOPs, G |')
        print('|---|---|---|---|')
    for path in args.configs:
        cfg = load_config(path, args.cfg_options)
        with exit_on_user_errors():
            height, width = args.shape or image_size(cfg)
        analyzer = analyze(cfg, (height, width))
        if not is_single:
            row = (
                *(Path(path).stem, f'{height}x{width}'),
                *(count_parameters(analyzer), f'{analyzer.total() / 1e9:.2f}'),
            )
            print(f'| {" | ".join(row)} |', flush=True)
            continue
        flops = {k: f'{v / 1e9:.2f}' for k, v in analyzer.by_module().items()}
        modules = [
            [name or 'all', count_parameters(analyzer, name), flops[name]]
            for name in MODULES
            if name in flops  # heads differ
        ]
        operators = [
            [name, f'{count / 1e9:.2f}']
            for name, count in analyzer.by_operator().most_common()
        ]
        console = Console()
        console.print(
            rich_table([['module', 'parameters, M', 'FLOPs, G'], *modules])
        )
        console.print(rich_table([['operator', 'FLOPs, G'], *operators]))
        console.print(f'one image of {height}x{width}')


if __name__ == '__main__':
    main()
