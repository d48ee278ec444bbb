"""Checks the data of a config and suggests fixes.

Exits with status 1 if there are errors. tools/train.py runs the quick check
before training.
"""

import argparse
import sys

from rich.console import Console
from rich.table import Table

from mmfaseg.utils.command_line import (
    add_cfg_options,
    exit_on_user_errors,
    figure_path,
    hide_known_warnings,
    load_config,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file or name')
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=['train', 'val', 'test'],
        default=['train', 'val', 'test'],
        help='splits to check (default: all)',
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='check only the settings and a few images, as in tools/train.py',
    )
    parser.add_argument(
        '--out',
        type=figure_path,
        metavar='FILE',
        help='write a bar chart of the class frequencies to this file',
    )
    add_cfg_options(parser, 'train_dataloader.dataset.data_root=DIR')
    return parser.parse_args(argv)


def print_class_frequencies(report, console: Console) -> None:
    """Prints a table of the pixels and images of each class."""
    classes, statistics = report.class_frequencies()
    if not statistics:
        return
    table = Table('class')
    for name, stats in statistics.items():
        table.add_column(f'{name}: % of pixels', justify='right')
        table.add_column(f'of {stats.num_images} images', justify='right')
    for number, name in enumerate(classes):
        cells = []
        for stats in statistics.values():
            cells.append(f'{stats.percentages[number]:.2f}')
            cells.append(str(stats.image_counts[number]))
        table.add_row(name, *cells)
    console.print(table)


def main() -> None:
    """Prints the report and exits with status 1 on errors."""
    hide_known_warnings()
    from mmfaseg.data_check import (
        NUM_QUICK_IMAGES,
        check_dataset,
        draw_histogram,
    )
    from mmfaseg.visualization import save_figure

    args, console = parse_args(), Console()
    limit = NUM_QUICK_IMAGES if args.quick else None
    with exit_on_user_errors():
        cfg = load_config(args.config, args.cfg_options)
        report = check_dataset(cfg, args.splits, limit)
    print_class_frequencies(report, console)
    for diagnostic in report.diagnostics:
        console.print(str(diagnostic), markup=False, soft_wrap=True)
    errors = len(report.errors)
    warnings = len(report.diagnostics) - errors
    console.print(f'{errors} errors, {warnings} warnings')
    if args.out is not None:
        figure = draw_histogram(report)
        with exit_on_user_errors():
            console.print(f'wrote {save_figure(figure, args.out)}')
    sys.exit(1 if errors else 0)


if __name__ == '__main__':
    main()
