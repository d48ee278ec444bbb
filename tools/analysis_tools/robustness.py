"""Measures how much of its mIoU a network keeps on corrupted images.

Each checkpoint is tested on the test set of its config, clean and under the
corruptions of Hendrycks and Dietterich (ICLR 2019). Every cell of the grid is
kept in DIR/robustness.json at once: the same command goes on where it was
interrupted. Tables and a plot are beside it, in robustness.md and .png.

One model:      robustness.py CONFIG CHECKPOINT
Several models: robustness.py --model A CONFIG CHECKPOINT --model B CONFIG ...
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from result_files import LockedError, folder_lock
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from robustness_report import Report
from robustness_results import (
    CLEAN,
    METRIC,
    Cell,
    Result,
    ResultFile,
    fingerprint,
)
from robustness_tester import Tester

from mmfaseg.datasets.transforms import (
    CORRUPTIONS,
    SEVERITIES,
    choose_corruptions,
    load_corrupt,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', nargs='?', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file')
    parser.add_argument(
        '--model',
        nargs=3,
        action='append',
        default=[],
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
        help='a model and its name in tables and plot; again for each model',
    )
    parser.add_argument(
        '--corruptions',
        nargs='+',
        default=['common'],
        metavar='NAME',
        help=f'corruptions or their groups {", ".join(CORRUPTIONS)}; common '
        '(default): the 15 of the benchmark; all: with the four extra ones',
    )
    parser.add_argument(
        '--severities',
        nargs='+',
        type=int,
        choices=SEVERITIES,
        default=SEVERITIES,
        metavar='N',
        help='from 1, the mildest, to 5; all by default',
    )
    parser.add_argument(
        '--out',
        default='work_dirs/robustness',
        metavar='DIR',
        help='where results go (default: work_dirs/robustness)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the corruptions'
    )
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='cpu, cuda or cuda:N',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of all configs, for example '
        'test_dataloader.dataset.indices=100',
    )
    args = parser.parse_args(argv)
    if args.config is not None:
        if args.checkpoint is None:
            parser.error(f'{args.config} needs a checkpoint behind it')
        name = Path(args.config).stem
        args.model.insert(0, [name, args.config, args.checkpoint])
    names = [name for name, _, _ in args.model]
    if not names:
        parser.error('give CONFIG CHECKPOINT, or --model for each model')
    if len(set(names)) < len(names):
        parser.error(f'each model needs its own name, got {" ".join(names)}')
    args.severities = sorted(set(args.severities))
    try:
        args.corruptions = choose_corruptions(args.corruptions)
    except ValueError as error:
        parser.error(str(error))
    return args


def load_config(path: str, options: dict) -> Config:
    """Return the config with the command line's wishes in it."""
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options)
    return cfg


class Bar:
    """Says how far the whole grid is: a bar, or a line for each cell."""

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.done = 0
        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('{task.description}'),
            TextColumn('left'),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,  # no thread beside forks
            disable=not console.is_terminal,
            speed_estimate_period=600,  # corruptions differ in speed
        )
        self.task = self.progress.add_task('', total=total)

    @contextmanager
    def cell(self, name: str) -> Iterator[None]:
        """Show the bar for a cell; count it when it is done."""
        self.progress.update(self.task, description=name)
        self.progress.refresh()
        yield
        self.done += 1
        self.progress.update(self.task, completed=self.done)
        self.progress.refresh()

    def advance(self, part: float) -> None:
        """Move on by a part of a cell."""
        self.progress.advance(self.task, part)
        self.progress.refresh()

    def say(self, text: str) -> None:
        """Print a line about the last cell where no bar can be drawn."""
        if self.progress.disable:
            line = f'[{self.done}/{self.total}] {text}'
            self.console.print(line, markup=False, highlight=False)


def measure(
    result: Result, todo: list[Cell], tester: Tester, bar: Bar
) -> Iterator[None]:
    """Fill in the cells of a model; stop after each to have it saved."""
    for cell in todo:
        name = ' '.join(map(str, (result.name, *cell)))
        with bar.cell(name):
            try:
                metrics = tester.test(cell, bar.advance)
            except ValueError as error:
                if cell == CLEAN:
                    raise
                # a worker's error ends in what it said
                reason = str(error).strip() or repr(error)
                metrics = dict(error=reason.splitlines()[-1])
            result.add(cell, metrics)
        said = metrics.get('error') or f'{METRIC} {metrics[METRIC]:.2f}'
        bar.say(f'{name}: {said}')
        yield


def run(args: argparse.Namespace, console: Console) -> Report:
    """Measure what is not known yet; return the report."""
    grid = [(name, s) for name in args.corruptions for s in args.severities]
    file = ResultFile(Path(args.out) / 'robustness.json')
    work = []
    for name, path, checkpoint in args.model:
        cfg = load_config(path, args.cfg_options)
        digest = fingerprint(cfg, checkpoint, args.seed)
        result = file.enter(Result(name, path, checkpoint, digest))
        todo = [x for x in (CLEAN, *grid) if result.score(x) is None]
        work.append((result, cfg, todo))
    bar = Bar(console, sum(len(todo) for _, _, todo in work))
    with bar.progress:
        for result, cfg, todo in work:
            if todo:
                load_corrupt()  # says what is missing, before anything runs
                tester = Tester(cfg, result.checkpoint, args.device, args.seed)
                for _ in measure(result, todo, tester, bar):
                    file.save()
    results = [result for result, _, _ in work]
    return Report(results, args.corruptions, args.severities)


def main(argv: list[str] | None = None) -> int:
    """Measure as the command line says; return the exit code."""
    args = parse_args(argv)
    console = Console()
    try:
        with folder_lock(Path(args.out)):
            report = run(args, console)
    except KeyboardInterrupt:
        console.print('interrupted: the same command goes on from here')
        return 130
    except LockedError as error:
        console.print(str(error), style='red', soft_wrap=True)
        return 1
    for table in report.tables():
        console.print(table)
    failures = report.failures()
    for line in failures:
        console.print(f'failed: {line}', markup=False, highlight=False)
    out = Path(args.out)
    report.write_markdown(out / 'robustness.md')
    report.draw(out / 'robustness.png')
    for name in ('robustness.json', 'robustness.md', 'robustness.png'):
        print(f'wrote {os.path.relpath(out / name)}')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
