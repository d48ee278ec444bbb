"""Trains several configs with several seeds and compares them.

    python tools/analysis_tools/study.py configs/ablations/{hrca,faseg}_*
        --seeds 0 1 2 --baseline hrca

Every cell, a config and a seed, runs in a separate process. The same command
skips finished cells and resumes interrupted ones from their last checkpoint.
For each seed, all configs are trained on the same images in the same order,
with the same initial backbone. Tables and figures are written to --out.
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

from grid import GridError, GridProgress, run_main
from rich.console import Console
from study_cell import Cell
from study_report import report

from mmfaseg.utils.command_line import (
    add_cfg_options,
    hide_known_warnings,
    positive_int,
)
from mmfaseg.utils.config_files import find_config

POLL_SECONDS = 1.0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add('configs', nargs='+', help='one config, as path or name, per row')
    add(
        '--seeds',
        nargs='+',
        type=int,
        default=[0, 1, 2],
        help='random seeds; each config runs once per seed (default: 0 1 2)',
    )
    add(
        '--out',
        type=Path,
        default=Path('work_dirs/study'),
        help='folder for runs, tables and plots (default: work_dirs/study)',
    )
    add('--baseline', help='row to compare with (default: the first)')
    add(
        '--jobs',
        type=positive_int,
        default=1,
        help='number of parallel processes (default: 1)',
    )
    add('--metrics', nargs='+', help='columns (default: all means)')
    add('--readme', type=Path, help='also update the table in this file')
    add('--report-only', action='store_true', help='only write the report')
    add_cfg_options(parser, 'train_cfg.max_iters=100')
    return parser.parse_args(argv)


def make_cells(args: argparse.Namespace) -> list[Cell]:
    """Returns all cells, seed by seed.

    Raises:
        GridError: if an argument is ambiguous.
        FileNotFoundError: if a config does not exist.
        ValueError: if the name of a config is ambiguous.
    """
    rows: dict[str, Path] = {}
    for config in map(find_config, args.configs):
        row = Cell(config, 0, args.out, {}).row
        if row in rows:
            raise GridError(
                f'{rows[row]} and {config} are both row {row!r}: rows are '
                'named by the file name up to the first underscore'
            )
        rows[row] = config
    if args.baseline is not None and args.baseline not in rows:
        raise GridError(
            f'--baseline {args.baseline} is not one of the rows {list(rows)}'
        )
    if len(set(args.seeds)) < len(args.seeds):
        raise GridError(f'--seeds {args.seeds} has duplicates')
    return [
        Cell(config, seed, args.out.resolve(), args.cfg_options)
        for seed in args.seeds
        for config in rows.values()
    ]


def start(cell: Cell, jobs: int) -> subprocess.Popen:
    """Starts the process of a cell and writes its output to a file."""
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


def run_cells(cells: list[Cell], jobs: int, console: Console) -> bool:
    """Runs unfinished cells and returns whether all of them succeeded."""
    waiting = [cell for cell in cells if cell.result() is None]
    running: dict[Cell, subprocess.Popen] = {}
    succeeded = True
    partial = sum(cell.fraction() for cell in waiting)
    with GridProgress(console, len(waiting), partial) as progress:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    cell = waiting.pop(0)
                    running[cell] = start(cell, jobs)
                time.sleep(POLL_SECONDS)
                for cell, process in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[cell]
                    text = 'done'
                    if process.returncode:
                        succeeded = False
                        text = f'FAILED, see {cell.work_dir}/output.txt'
                    progress.finish_cell(f'{cell.name}: {text}')
                partial = sum(x.fraction() for x in (*running, *waiting))
                progress.show(', '.join(x.name for x in running), partial)
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
    return succeeded


def main(argv: list[str] | None = None) -> int:
    """Runs the study and returns the exit status."""
    hide_known_warnings()
    args = parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 130)

    def run() -> bool:
        cells = make_cells(args)
        succeeded = args.report_only or run_cells(cells, args.jobs, console)
        baseline = args.baseline or cells[0].row
        report(cells, baseline, args.metrics, args.readme, console)
        return succeeded

    return run_main(run, console)


if __name__ == '__main__':
    # raises an exception, so that the cells are terminated
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
