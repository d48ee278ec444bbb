"""Measures the cross-attention of the queries of trained models.

Prints means over layers, images and queries that predict pixels for each
stride: entropy of the focus (0 to 1), its overlap with the preference of the
positional query, drift of its center between layers (in image diagonals),
and turn of the positional query (1 - cosine).
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from grid import rich_table, write_json
from mmengine.registry import DATASETS, init_default_scope
from rich.console import Console
from rich.progress import track

from mmfaseg.apis import load_model
from mmfaseg.utils.command_line import (
    INFERENCE_ERRORS,
    add_cfg_options,
    exit_on_user_errors,
    hide_known_warnings,
    positive_int,
)
from mmfaseg.utils.config_classes import split_dataset
from mmfaseg.visualization.explorer import MEASURES, explore, nan_mean


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('models', nargs='+', help='work dirs with a config and a checkpoint')
    add(
        '--num-images',
        type=positive_int,
        default=40,
        help='number of images (default: 40)',
    )
    add(
        '--split',
        choices=['val', 'test'],
        default='test',
        help='dataloader of the images (default: test)',
    )
    add('--device', default='cpu', help='device of the model (default: cpu)')
    add('--json', type=Path, help='also write the values to this file')
    add_cfg_options(parser, 'test_dataloader.dataset.length=100')
    return parser.parse_args(argv)


def measure(args: argparse.Namespace, name: str) -> dict[int, dict]:
    """Returns the means of one model by stride."""
    model = load_model(name, None, args.device, args.cfg_options)
    init_default_scope(model.cfg.get('default_scope', 'mmseg'))
    dataset = DATASETS.build(split_dataset(model.cfg, args.split))
    meta = model.dataset_meta
    values: dict = defaultdict(lambda: defaultdict(list))
    count = min(args.num_images, len(dataset))
    for index in track(range(count), name):
        image = dataset[index]
        view = explore(model, image, meta['classes'], meta['palette'])
        for layer in view.layers:
            for key in MEASURES:
                values[layer.stride][key].append(getattr(layer, key))
    return {
        stride: {key: _mean(x) for key, x in of_stride.items()}
        for stride, of_stride in sorted(values.items(), reverse=True)
    }


def _mean(parts: list[np.ndarray]) -> float | None:
    value = nan_mean(parts)
    return None if np.isnan(value) else round(value, 4)


def main(argv: list[str] | None = None) -> dict[str, dict]:
    """Prints a table and returns the means by model and stride."""
    hide_known_warnings()
    args = parse_args(argv)
    with exit_on_user_errors(INFERENCE_ERRORS):
        means = {name: measure(args, name) for name in args.models}
    rows = [['model', 'stride', *MEASURES]]
    for name, of_model in means.items():
        for stride, numbers in of_model.items():
            values = (numbers[x] for x in MEASURES)
            texts = ('-' if x is None else f'{x:.3f}' for x in values)
            rows.append([name, str(stride), *texts])
    Console().print(rich_table(rows))
    if args.json is not None:
        write_json(args.json, means)
    return means


if __name__ == '__main__':
    main()
