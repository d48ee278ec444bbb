"""Trains a grid of configs and seeds; says what the differences are worth.

    python tools/analysis_tools/study.py configs/ablations/{hrca,faseg}_*
        --seeds 0 1 2 --baseline hrca

Every cell, a config with a seed, runs in a process of its own. What is
finished is not run again; what was killed goes on from its last checkpoint.
All rows of a seed see the same images in the same order and start from the
same backbone. Tables and figures go to --out, and the table to --readme.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from mmengine.config import DictAction
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from study_cell import Cell, StudyError
from study_report import report

SECONDS_BETWEEN_LOOKS = 1.0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add('configs', nargs='+', type=Path, help='one file per row')
    add('--seeds', nargs='+', type=int, default=[0, 1, 2])
    add('--out', type=Path, default=Path('work_dirs/study'))
    add('--baseline', help='row that others are compared with; the first')
    add('--jobs', type=int, default=1, help='cells at the same time')
    add('--metrics', nargs='+', help='columns of the table; all means')
    add('--readme', type=Path, help='file with the marks of the table')
    add('--report-only', action='store_true', help='run nothing')
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of all configs',
    )
    return parser.parse_args(argv)


def make_cells(args: argparse.Namespace) -> list[Cell]:
    """Return the grid, seed by seed, so that rows grow alike.

    Raises:
        StudyError: if files are missing, or two are the same row.
    """
    missing = [str(x) for x in args.configs if not x.is_file()]
    if missing:
        raise StudyError(f'no such config: {", ".join(missing)}')
    rows: dict[str, Path] = {}
    for config in args.configs:
        row = Cell(config, 0, args.out, {}).row
        if row in rows:
            raise StudyError(
                f'{rows[row]} and {config} are both row {row!r}: a row is '
                'named by the file, up to the first underscore'
            )
        rows[row] = config
    if args.baseline is not None and args.baseline not in rows:
        raise StudyError(
            f'--baseline {args.baseline} is none of the rows {list(rows)}'
        )
    if len(set(args.seeds)) < len(args.seeds):
        raise StudyError(f'--seeds {args.seeds} names a seed twice')
    return [
        Cell(config, seed, args.out.resolve(), args.cfg_options)
        for seed in args.seeds
        for config in rows.values()
    ]


def start(cell: Cell, jobs: int) -> subprocess.Popen:
    """Start the process of a cell; its output goes to a file."""
    cell.work_dir.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    if jobs > 1:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        environment.setdefault('OMP_NUM_THREADS', str(threads))
    command = [
        sys.executable,
        str(Path(__file__).with_name('study_cell.py')),
        str(cell.config),
        *('--seed', str(cell.seed)),
        *('--out', str(cell.out)),
        *('--options', json.dumps(cell.options)),
    ]
    with (cell.work_dir / 'output.txt').open('a') as file:
        print('$', shlex.join(command), file=file, flush=True)
        return subprocess.Popen(
            command, stdout=file, stderr=file, env=environment
        )


def run_all(cells: list[Cell], jobs: int, console: Console) -> list[Cell]:
    """Run what is not done, with a progress bar; return what failed."""
    waiting = [cell for cell in cells if cell.result() is None]
    running: dict[Cell, subprocess.Popen] = {}
    failed = []
    lengths = {id(cell): cell.max_iters() for cell in waiting}
    # what earlier runs did counts as done, not as fast
    before = {id(cell): cell.iteration() for cell in waiting}
    total = sum(lengths[id(x)] - before[id(x)] for x in waiting)
    done = 0
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, speed_estimate_period=600
    ) as progress:
        bar = progress.add_task('iterations', total=total)
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    cell = waiting.pop(0)
                    running[cell] = start(cell, jobs)
                time.sleep(SECONDS_BETWEEN_LOOKS)
                for cell, process in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[cell]
                    done += lengths[id(cell)] - before[id(cell)]
                    name = f'{cell.row}, seed {cell.seed}'
                    if process.returncode or not is_done(cell):
                        failed.append(cell)
                        name += f': FAILED, see {cell.work_dir}/output.txt'
                    progress.console.print(f'done: {name}')
                now = sum(x.iteration() - before[id(x)] for x in running)
                names = ' '.join(f'{x.row}/{x.seed}' for x in running)
                progress.update(
                    bar, completed=done + now, description=names or 'done'
                )
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
    return failed


def is_done(cell: Cell) -> bool:
    """Return whether a cell has a result for the config as it is now."""
    try:
        return cell.result() is not None
    except StudyError:  # the config was changed meanwhile
        return False


def main(argv: list[str] | None = None) -> int:
    """Run the grid and write the report; return the exit code."""
    args = parse_args(argv)
    # so that no cell is left behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(width=None if sys.stdout.isatty() else 130)
    try:
        cells = make_cells(args)
        failed = []
        if not args.report_only:
            failed = run_all(cells, args.jobs, console)
        baseline = args.baseline or cells[0].row
        report(cells, baseline, args.metrics, args.readme, console)
    except StudyError as error:
        console.print(str(error), style='red', soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print('stopped; the same command goes on from here')
        return 130
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
