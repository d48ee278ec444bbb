"""Trains a small FASeg on generated images and shows what it learnt.

This is what ``make demo`` and ``make demo-instance`` run: it trains from
scratch, evaluates with the metric of the config and draws predictions and the
focus of the queries.
"""

import argparse
import logging
import os
import shlex
import sys
import time
import warnings
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.runner import Runner

import mmfaseg  # noqa: F401  makes mmseg importable on this stack
from mmfaseg.checkpoints import find_latest_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
CAMVID = CONFIG.parent / 'faseg_r18_1xb8-20k_camvid-360x480.py'
SWAPPED = CONFIG.parent / 'faseg_swin-t_1xb8-20k_camvid-360x480.py'
STEPS = ('build', 'train', 'evaluate', 'draw')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'config', nargs='?', default=str(CONFIG), help='config file'
    )
    parser.add_argument(
        '--out',
        default='demo_out',
        metavar='DIR',
        help='where figures, logs and checkpoints go',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on from the latest checkpoint of an interrupted demo',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of all randomness'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the config, for example '
        'train_cfg.max_iters=100',
    )
    return parser.parse_args(argv)


class DemoRunner(Runner):
    """A runner whose log goes to its file; the console shows errors only."""

    def build_logger(
        self,
        log_level: int | str = 'INFO',
        log_file: str | None = None,
        **kwargs,
    ) -> MMLogger:
        """Return mmengine's logger, quiet on the console."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        set_console_level(logger, logging.ERROR)
        return logger


def set_console_level(logger: logging.Logger, level: int) -> None:
    """Choose what the console shows, bare; the log file keeps everything."""
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setLevel(level)
            handler.setFormatter(logging.Formatter('%(message)s'))


class Steps:
    """Prints which step begins, and how long the one before took."""

    def __init__(self) -> None:
        self.number = 0
        self.start = self.began = time.perf_counter()

    def begin(self, text: str) -> None:
        """Announce the next step."""
        self.end()
        self.number += 1
        print(f'[{self.number}/{len(STEPS)}] {text}', flush=True)

    def end(self) -> None:
        """Say how long the step took."""
        now = time.perf_counter()
        if self.number:
            print(f'      done in {now - self.began:.0f} s\n', flush=True)
        self.began = now


def load_config(args: argparse.Namespace) -> Config:
    """Return the config with the command line's wishes in it."""
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = str(Path(args.out) / 'train')
    cfg.randomness = dict(cfg.get('randomness', {}), seed=args.seed)
    cfg.resume = args.resume
    # evaluated once, after training
    cfg.train_cfg.val_begin = cfg.train_cfg.max_iters + 1
    return cfg


def run(args: argparse.Namespace, steps: Steps) -> None:
    """Go through all steps."""
    from mmfaseg.engine import ProgressBarHook
    from mmfaseg.evaluation import MAIN_METRICS, in_percent, main_metric
    from mmfaseg.visualization import write_report

    cfg = load_config(args)
    steps.begin(f'build the network of {os.path.relpath(args.config)}')
    runner = DemoRunner.from_cfg(cfg)
    parameters = sum(p.numel() for p in runner.model.parameters())
    print(
        f'      {parameters / 1e6:.1f} M parameters on '
        f'{next(runner.model.parameters()).device}, '
        f'{torch.get_num_threads()} threads; log in {runner.log_dir}'
    )
    steps.begin('train')
    bar = ProgressBarHook()
    runner.register_hook(bar)
    try:
        runner.train()
    finally:
        bar.close()

    steps.begin('evaluate')
    set_console_level(runner.logger, logging.INFO)
    metrics = runner.val()
    set_console_level(runner.logger, logging.ERROR)
    name = main_metric(metrics)
    if name is not None:
        value = in_percent(metrics)[name]
        print(f'      {MAIN_METRICS[name]} {value:.2f}')

    steps.begin('draw')
    dataset = runner.val_dataloader.dataset
    for path in write_report(runner.model, dataset, args.out):
        print(f'      {path}')
    steps.end()


def print_next_steps(args: argparse.Namespace, work_dir: str) -> None:
    """Print commands that build on the demo."""
    checkpoint = os.path.relpath(find_latest_checkpoint(work_dir))
    # the runner left the config there, the command line's wishes in it
    used = Path(work_dir) / Path(args.config).name
    config, python = (os.path.relpath(path) for path in (used, sys.executable))
    print(f"""What next:
  look at {args.out}/predictions.png and {args.out}/focus.png
  test the checkpoint on images it was never chosen by:
    {python} tools/test.py {config} {checkpoint}
  draw other images:
    {python} tools/demo/draw.py {config} {checkpoint} --indices 3 14 15""")
    if Config.fromfile(used).default_scope == 'mmseg':
        camvid, swapped = (os.path.relpath(path) for path in (CAMVID, SWAPPED))
        print(f"""\
  train on real streets, CamVid (README.md says where it comes from):
    {python} tools/train.py {camvid}
  swap the backbone with one short file, such as
    {swapped}""")


def main(argv: list[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    args = parse_args(argv)
    # said by a hook that draws on demand only, as in every config
    warnings.filterwarnings('ignore', message='The draw is False')
    steps = Steps()
    try:
        run(args, steps)
    except KeyboardInterrupt:
        typed = sys.argv[1:] if argv is None else argv
        rest = [each for each in typed if each != '--resume']
        again = shlex.join(
            [os.path.relpath(sys.executable), os.path.relpath(__file__), *rest]
        )
        print(f"""
interrupted in step {steps.number}; this goes on from the latest checkpoint:
  {again} --resume""")
        return 130
    print_next_steps(args, str(Path(args.out) / 'train'))
    return 0


if __name__ == '__main__':
    sys.exit(main())
