"""Measures the mIoU of models on corrupted images.

Tests each checkpoint on the test set of its config, clean and with the
corruptions of Hendrycks and Dietterich (ICLR 2019). Results are written to
DIR/robustness.json immediately, so that the same command resumes an
interrupted run. Tables and a plot are written to robustness.md and
robustness.png.

One model:      robustness.py CONFIG CHECKPOINT
Several models: robustness.py --model A CONFIG CHECKPOINT --model B CONFIG ...
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from grid import (
    GridProgress,
    folder_lock,
    rich_table,
    run_main,
    write_json,
)
from rich.console import Console
from robustness_results import (
    CLEAN,
    METRIC,
    Cell,
    Report,
    Result,
    fingerprint,
    read_results,
)
from robustness_tester import Tester

from mmfaseg.datasets.transforms import (
    CORRUPTIONS,
    SEVERITIES,
    choose_corruptions,
    load_corrupt,
)
from mmfaseg.utils.command_line import (
    add_cfg_options,
    hide_known_warnings,
    load_config,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', nargs='?', help='config file or name')
    add('checkpoint', nargs='?', help='checkpoint file')
    add(
        '--model',
        nargs=3,
        action='append',
        default=[],
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
        help='model and its name in tables and plot; can be repeated',
    )
    add(
        '--corruptions',
        nargs='+',
        default=['common'],
        metavar='NAME',
        help='names of corruptions or groups '
        f'({", ".join(CORRUPTIONS)}), common (the 15 of the benchmark) '
        'or all (also the four extra ones) (default: common)',
    )
    add(
        '--severities',
        nargs='+',
        type=int,
        choices=SEVERITIES,
        default=SEVERITIES,
        metavar='N',
        help='1 (mild) to 5 (default: all)',
    )
    add(
        '--out',
        default='work_dirs/robustness',
        metavar='DIR',
        help='directory for results (default: work_dirs/robustness)',
    )
    add(
        '--seed',
        type=int,
        default=0,
        help='random seed of the corruptions (default: 0)',
    )
    add(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='cpu, cuda or cuda:N (default: cuda if available, else cpu)',
    )
    add_cfg_options(parser, 'test_dataloader.dataset.indices=100')
    args = parser.parse_args(argv)
    if args.config is not None:
        if args.checkpoint is None:
            parser.error(f'{args.config} needs a checkpoint after it')
        name = Path(args.config).stem
        args.model.insert(0, [name, args.config, args.checkpoint])
    names = [name for name, _, _ in args.model]
    if not names:
        parser.error('give CONFIG CHECKPOINT, or --model for each model')
    if len(set(names)) < len(names):
        parser.error(f'model names must be unique, got {" ".join(names)}')
    args.severities = sorted(set(args.severities))
    try:
        args.corruptions = choose_corruptions(args.corruptions)
    except ValueError as error:
        parser.error(str(error))
    return args


def measure(cell: Cell, tester: Tester) -> dict:
    """Returns the metrics of a cell, or the error of the corruption."""
    try:
        return tester.test(cell)
    except ValueError as error:
        if cell == CLEAN:
            raise
        # the last line of a worker error is the original message
        reason = str(error).strip() or repr(error)
        return dict(error=reason.splitlines()[-1])


def run_cells(args: argparse.Namespace, console: Console) -> Report:
    """Measures the remaining cells and returns the report."""
    grid = [(name, s) for name in args.corruptions for s in args.severities]
    file = Path(args.out) / 'robustness.json'
    results = read_results(file)
    work = []
    for name, path, checkpoint in args.model:
        cfg = load_config(path, args.cfg_options)
        digest = fingerprint(cfg, checkpoint, args.seed)
        result = Result(name, path, checkpoint, digest)
        if name in results and results[name].fingerprint == digest:
            result.cells = results[name].cells
        results[name] = result
        todo = [x for x in (CLEAN, *grid) if METRIC not in result.metrics(x)]
        work.append((result, cfg, todo))
    total = sum(len(todo) for _, _, todo in work)
    if total:
        load_corrupt()  # raises if its package is missing
    with GridProgress(console, total) as progress:
        for result, cfg, todo in work:
            if not todo:
                continue
            tester = Tester(cfg, result.checkpoint, args.device, args.seed)
            for cell in todo:
                name = ' '.join(map(str, (result.name, *cell)))
                progress.show(name)
                metrics = measure(cell, tester)
                result.set_metrics(cell, metrics)
                write_json(
                    file, dict(models=list(map(asdict, results.values())))
                )
                text = (
                    metrics.get('error') or f'{METRIC} {metrics[METRIC]:.2f}'
                )
                progress.finish_cell(f'{name}: {text}')
    tested = [result for result, _, _ in work]
    return Report(tested, args.corruptions, args.severities)


def main(argv: list[str] | None = None) -> int:
    """Measures the models and returns the exit status."""
    hide_known_warnings()
    args = parse_args(argv)
    console = Console()
    out = Path(args.out)

    def run() -> bool:
        with folder_lock(out):
            report = run_cells(args, console)
        for rows in report.tables():
            console.print(rich_table(rows))
        failures = report.failures()
        for line in failures:
            console.print(f'failed: {line}', markup=False, highlight=False)
        report.write_markdown(out / 'robustness.md')
        report.draw(out / 'robustness.png')
        for suffix in ('json', 'md', 'png'):
            print(f'wrote {out / f"robustness.{suffix}"}')
        return not failures

    return run_main(run, console)


if __name__ == '__main__':
    sys.exit(main())
