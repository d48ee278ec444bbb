"""Trains a small FASeg on generated images, evaluates it and draws figures.

Run it with ``make demo`` or ``make demo-instance``.
"""

import argparse
import logging
import os
import shlex
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmfaseg.checkpoints import find_latest_checkpoint
from mmfaseg.utils.command_line import (
    add_cfg_options,
    hide_known_warnings,
    load_config,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'config', nargs='?', default=str(CONFIG), help='config file'
    )
    parser.add_argument(
        '--out',
        default='demo_out',
        metavar='DIR',
        help='folder for figures, logs and checkpoints (default: %(default)s)',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='continue from the latest checkpoint of an interrupted demo',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='random seed (default: 0)'
    )
    add_cfg_options(parser, 'train_cfg.max_iters=100')
    return parser.parse_args(argv)


class DemoRunner(Runner):
    """Runner that logs to a file and shows only errors on the console."""

    def build_logger(
        self,
        log_level: int | str = 'INFO',
        log_file: str | None = None,
        **kwargs,
    ) -> MMLogger:
        """Returns mmengine's logger with a quiet console."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        set_console_level(logger, logging.ERROR)
        return logger


def set_console_level(logger: logging.Logger, level: int) -> None:
    """Sets the level and a plain format for the console."""
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setLevel(level)
            handler.setFormatter(logging.Formatter('%(message)s'))


def make_config(args: argparse.Namespace) -> Config:
    """Returns the config with the command line options applied."""
    cfg = load_config(args.config, args.cfg_options)
    cfg.work_dir = str(Path(args.out) / 'train')
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=args.seed)
    cfg.resume = args.resume
    # evaluated once, after training
    cfg.train_cfg.val_begin = cfg.train_cfg.max_iters + 1
    return cfg


def run(args: argparse.Namespace) -> None:
    """Trains, evaluates and draws."""
    from mmfaseg.engine import ProgressBarHook
    from mmfaseg.evaluation import MAIN_METRICS, in_percent, main_metric
    from mmfaseg.visualization import write_figures

    print(f'[1/4] build the network of {os.path.relpath(args.config)}')
    runner = DemoRunner.from_cfg(make_config(args))
    parameters = sum(p.numel() for p in runner.model.parameters())
    print(
        f'      {parameters / 1e6:.1f} M parameters on '
        f'{next(runner.model.parameters()).device}, '
        f'{torch.get_num_threads()} threads; log in {runner.log_dir}'
    )
    print('[2/4] train', flush=True)
    bar = ProgressBarHook()
    runner.register_hook(bar)
    try:
        runner.train()
    finally:
        bar.close()

    print('[3/4] evaluate', flush=True)
    set_console_level(runner.logger, logging.INFO)
    metrics = runner.val()
    set_console_level(runner.logger, logging.ERROR)
    name = main_metric(metrics)
    if name is not None:
        print(f'      {MAIN_METRICS[name]} {in_percent(metrics)[name]:.2f}')

    print('[4/4] draw', flush=True)
    dataset = runner.val_dataloader.dataset
    for path in write_figures(runner.model, dataset, args.out):
        print(f'      {path}')


def print_next_steps(args: argparse.Namespace) -> None:
    """Prints commands that use the trained network."""
    work_dir = Path(args.out) / 'train'
    checkpoint = os.path.relpath(find_latest_checkpoint(str(work_dir)))
    config, python = (
        os.path.relpath(path)
        for path in (work_dir / Path(args.config).name, sys.executable)
    )
    print(f"""What next:
  view {args.out}/predictions.png and {args.out}/focus.png
  evaluate the checkpoint on the test split:
    {python} tools/test.py {config} {checkpoint}
  draw other images:
    {python} tools/analysis_tools/draw_figures.py {config} {checkpoint} \
--indices 3 14 15""")


def main(argv: list[str] | None = None) -> int:
    """Runs the demo and returns the exit status."""
    hide_known_warnings()
    args = parse_args(argv)
    try:
        run(args)
    except KeyboardInterrupt:
        typed = sys.argv[1:] if argv is None else argv
        rest = [each for each in typed if each != '--resume']
        command = shlex.join(
            [os.path.relpath(sys.executable), os.path.relpath(__file__), *rest]
        )
        print(f'\ninterrupted; to continue: {command} --resume')
        return 130
    print_next_steps(args)
    return 0


if __name__ == '__main__':
    sys.exit(main())
