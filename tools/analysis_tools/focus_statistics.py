"""Means of where the queries of a network look, over many images.

For each stride, over layers, images and the queries that answer for pixels:
how widely a query looks (entropy, 0 to 1 of what a layer can read), what its
focus has in common with the preference of its positional query (overlap), how
far the middle of the focus moves between layers (drift, in diagonals), and how
far the positional query turns (1 less the cosine).
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from mmengine.config import Config, DictAction
from rich.console import Console
from rich.progress import track
from rich.table import Table

import mmfaseg  # noqa: F401  makes mmseg importable on this stack

MEASURES = ('entropy', 'overlap', 'drift', 'turn', 'change')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'models', nargs='+', help='work dirs: a config and a checkpoint each'
    )
    parser.add_argument(
        '--num-images',
        type=int,
        default=40,
        help='the first ones of the split',
    )
    parser.add_argument('--split', choices=['val', 'test'], default='test')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--json', type=Path, help='file for the numbers')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the configs',
    )
    return parser.parse_args(argv)


def measure(args: argparse.Namespace, model: str) -> dict[int, dict]:
    """Return the means of one network, by stride."""
    from mmengine.registry import DATASETS, init_default_scope

    from mmfaseg.apis import load_model
    from mmfaseg.visualization.explorer import explore

    network = load_model(model, None, args.device, args.cfg_options)
    cfg: Config = network.cfg
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
    meta = network.dataset_meta
    values: dict = defaultdict(lambda: defaultdict(list))
    count = min(args.num_images, len(dataset))
    for index in track(range(count), model):
        view = explore(
            network, dataset[index], meta['classes'], meta['palette']
        )
        for layer in view.layers:
            for name in MEASURES:
                values[layer.stride][name].append(getattr(layer, name))
    return {
        stride: {name: mean(parts) for name, parts in of_stride.items()}
        for stride, of_stride in sorted(values.items(), reverse=True)
    }


def mean(parts: list[np.ndarray]) -> float | None:
    """Return the mean of what is known, or None."""
    from mmfaseg.visualization.explorer import nan_mean

    value = nan_mean(parts)
    return None if np.isnan(value) else round(value, 4)


def main(argv: list[str] | None = None) -> dict[str, dict]:
    """Measure, and print a table."""
    args = parse_args(argv)
    if args.num_images < 1:
        raise ValueError(
            f'--num-images must be positive, got {args.num_images}'
        )
    found = {model: measure(args, model) for model in args.models}
    table = Table('network', 'stride', *MEASURES)
    for model, of_model in found.items():
        for stride, numbers in of_model.items():
            cells = [
                '-' if numbers[name] is None else f'{numbers[name]:.3f}'
                for name in MEASURES
            ]
            table.add_row(model, str(stride), *cells)
        table.add_section()
    Console().print(table)
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=2) + '\n')
    return found


if __name__ == '__main__':
    main()
