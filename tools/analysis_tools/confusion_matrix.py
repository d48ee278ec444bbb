"""Draws the confusion matrix of saved predictions.

The predictions are those of "tools/test.py CONFIG CHECKPOINT --out DIR", one
PNG label map per image of the test dataset. Rows are classes of the ground
truth, in percent of their pixels; the largest confusions are printed.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from grid import rich_table, write_json
from matplotlib.figure import Figure
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image
from rich.console import Console
from rich.progress import track

from mmfaseg.evaluation.class_count_metric import read_label_maps
from mmfaseg.utils.command_line import (
    add_cfg_options,
    exit_on_user_errors,
    figure_path,
    hide_known_warnings,
    load_config,
    positive_int,
)
from mmfaseg.utils.config_classes import split_dataset
from mmfaseg.utils.dataset_wrappers import ignored_label
from mmfaseg.utils.output_names import OutputNames
from mmfaseg.visualization import save_figure

CELL_SIZE, MARGIN = 0.42, 2  # inches
MAX_WRITTEN = 40  # classes up to which the values are written into the cells


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file or name')
    parser.add_argument(
        'predictions', type=Path, help='--out of tools/test.py'
    )
    parser.add_argument(
        '--out',
        type=figure_path,
        default=Path('confusion_matrix.png'),
        help='figure to write (default: confusion_matrix.png)',
    )
    parser.add_argument(
        '--json', type=Path, help='also write the pixel counts to this file'
    )
    parser.add_argument(
        '--top',
        type=positive_int,
        default=10,
        help='number of confusions to print (default: 10)',
    )
    add_cfg_options(parser, 'test_dataloader.dataset.data_root=DIR')
    return parser.parse_args(argv)


def count_pixels(dataset, predictions: Path) -> np.ndarray:
    """Counts the pixels of each pair of classes.

    Args:
        dataset (BaseDataset): dataset with labels in its pipeline.
        predictions (Path): folder of the label maps.

    Returns:
        np.ndarray: int64, shape (K, K), for K classes; rows are ground truth
        classes, columns predicted classes.

    Raises:
        FileNotFoundError: if an image has no prediction.
        ValueError: if a label map has another shape than the ground truth, or
            an image has no ground truth.
    """
    num_classes = len(dataset.metainfo['classes'])
    counts = np.zeros((num_classes + 1) ** 2, np.int64)
    names, ignored = OutputNames(dataset), ignored_label(dataset)
    for index in track(range(len(dataset)), 'reading'):
        sample = dataset[index]['data_samples']
        path = predictions / f'{names(sample.img_path)}.png'
        if not path.is_file():
            raise FileNotFoundError(
                f'there is no prediction {path}; run `mmfaseg test` '
                f'with --out {predictions}'
            )
        labels = np.asarray(Image.open(path)).astype(np.int64)
        if sample.get('reduce_zero_label', False):
            labels -= 1
        sample = {
            **sample.to_dict(),
            'pred_sem_seg': {'data': torch.from_numpy(labels[None])},
        }
        try:
            maps = read_label_maps(sample, num_classes, ignored)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
        # both have the label num_classes where pixels are ignored
        ground_truth, labels = maps
        pairs = ground_truth.astype(np.int64) * (num_classes + 1) + labels
        counts += np.bincount(pairs.ravel(), minlength=counts.size)
    return counts.reshape(num_classes + 1, -1)[:-1, :-1]


def to_percent(counts: np.ndarray) -> np.ndarray:
    """Returns the counts in percent of the rows; NaN in empty rows."""
    with np.errstate(invalid='ignore'):
        return 100 * counts / counts.sum(1, keepdims=True)


def draw(percent: np.ndarray, classes: tuple[str, ...]) -> Figure:
    """Draws a confusion matrix in percent."""
    count = len(classes)
    size = MARGIN + CELL_SIZE * min(count, MAX_WRITTEN)
    figure = Figure(figsize=(size + 0.6, size), layout='constrained')
    axes = figure.subplots()
    shown = axes.imshow(percent, cmap='Blues', vmin=0, vmax=100)
    figure.colorbar(shown, label='% of the pixels of the class', shrink=0.8)
    font = 7 if count <= MAX_WRITTEN else 4
    axes.set_xticks(range(count), classes, rotation=90, fontsize=font)
    axes.set_yticks(range(count), classes, fontsize=font)
    axes.set(xlabel='prediction', ylabel='ground truth')
    if count <= MAX_WRITTEN:
        for (row, column), value in np.ndenumerate(percent):
            if value >= 0.5:  # also false for NaN
                axes.text(
                    column,
                    row,
                    f'{value:.0f}',
                    ha='center',
                    va='center',
                    fontsize=6,
                    color='white' if value > 50 else 'black',
                )
    return figure


def largest_confusions(
    percent: np.ndarray, classes: tuple[str, ...], count: int
) -> list[list[str]]:
    """Returns table rows of the largest values off the diagonal."""
    confusions = np.nan_to_num(percent)
    np.fill_diagonal(confusions, 0)
    rows = [['ground truth', 'predicted as', '% of its pixels']]
    for index in np.argsort(-confusions, axis=None, kind='stable')[:count]:
        row, column = divmod(int(index), len(classes))
        if confusions[row, column] > 0:
            value = f'{confusions[row, column]:.2f}'
            rows.append([classes[row], classes[column], value])
    return rows


def main(argv: list[str] | None = None) -> None:
    """Prints the largest confusions and writes the figure."""
    hide_known_warnings()
    args, console = parse_args(argv), Console()
    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    with exit_on_user_errors((OSError, ValueError, AssertionError)):
        dataset = DATASETS.build(split_dataset(cfg, 'test'))
        counts = count_pixels(dataset, args.predictions)
    classes = tuple(dataset.metainfo['classes'])
    percent = to_percent(counts)
    console.print(rich_table(largest_confusions(percent, classes, args.top)))
    if args.json is not None:
        write_json(args.json, dict(classes=classes, pixels=counts.tolist()))
    with exit_on_user_errors():
        path = save_figure(draw(percent, classes), args.out)
    sys.stdout.write(f'wrote {path}\n')


if __name__ == '__main__':
    main()
