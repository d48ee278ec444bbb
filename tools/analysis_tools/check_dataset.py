"""Looks for traps in the data of a config and says what to change.

Exit code 1 if there is an error. Training reads the settings and a few
pictures by itself before it starts.
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import Config, DictAction
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import mmfaseg  # noqa: F401  makes mmseg importable on this stack


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=['train', 'val', 'test'],
        default=['train', 'val', 'test'],
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='only what training looks at: settings and a few pictures',
    )
    parser.add_argument(
        '--out',
        metavar='PNG',
        help='draw how often each class occurs into this file',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the config',
    )
    return parser.parse_args(argv)


def examine(args: argparse.Namespace, console: Console):
    """Return what the doctor found, with a bar for each split."""
    from mmfaseg.datasets.doctor import QUICK, check_dataset

    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    tasks = {}
    with Progress(console=console) as progress:

        def tell(split: str, done: int, total: int) -> None:
            if split not in tasks:
                tasks[split] = progress.add_task(split, total=total)
            progress.update(tasks[split], completed=done)

        limit = QUICK if args.quick else None
        return check_dataset(cfg, args.splits, limit, tell)


def print_census(examination, console: Console) -> None:
    """Print how often each class occurs."""
    shown = {x: c for x, c in examination.censuses.items() if c.read}
    if not shown:
        return
    splits = examination.splits
    classes = splits[next(iter(shown))].classes
    shown = {x: c for x, c in shown.items() if splits[x].classes == classes}
    table = Table('class')
    for name, census in shown.items():
        table.add_column(f'{name}: % of pixels', justify='right')
        table.add_column(f'of {census.read} pictures', justify='right')
    for number, name in enumerate(classes):
        cells = []
        for census in shown.values():
            total = max(int(census.pixels.sum()), 1)
            cells.append(f'{100 * census.pixels[number] / total:.2f}')
            cells.append(str(census.pictures[number]))
        table.add_row(name, *cells)
    console.print(table)


def main() -> None:
    """Examine, print, and leave with what was found."""
    from mmfaseg.datasets.doctor import draw_histogram
    from mmfaseg.visualization import save_figure

    args, console = parse_args(), Console()
    try:
        examination = examine(args, console)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    print_census(examination, console)
    for diagnostic in examination.diagnostics:
        console.print(str(diagnostic), markup=False, soft_wrap=True)
    errors = len(examination.errors)
    warnings = len(examination.diagnostics) - errors
    console.print(f'{errors} errors, {warnings} warnings')
    if args.out is not None:
        figure = draw_histogram(examination.splits, examination.censuses)
        console.print(f'wrote {save_figure(figure, Path(args.out))}')
    sys.exit(1 if errors else 0)


if __name__ == '__main__':
    main()
