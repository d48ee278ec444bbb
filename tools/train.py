"""Trains a segmentor from a config."""

import argparse
import logging
import os
import sys
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import mmfaseg
from mmfaseg.checkpoints.latest import find_latest_checkpoint
from mmfaseg.checkpoints.untrusted import load_untrusted
from mmfaseg.utils.config_names import ConfigNameError, reject_unknown_names
from mmfaseg.utils.cpu_processes import (
    destroy_process_group,
    prepare_cpu_processes,
)

AMP_DEVICES = ('cuda', 'npu', 'mlu', 'musa')  # of mmengine's AmpOptimWrapper

LOGS = {'tensorboard': 'TensorboardVisBackend', 'wandb': 'WandbVisBackend'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help='where logs and checkpoints go; by default what the config '
        'says, else work_dirs/NAME_OF_CONFIG',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue a run: from this checkpoint, or, without a value, '
        'from the latest one in the work dir (from the start if none)',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='fp16',
        choices=['fp16', 'bf16'],
        help='train in mixed precision: float16 with loss scaling, also '
        'without a value, or bfloat16, which needs none',
    )
    parser.add_argument('--seed', type=int, help='seed of all randomness')
    parser.add_argument(
        '--log',
        nargs='+',
        choices=list(LOGS),
        default=[],
        help='log there, too, beside the files of the work dir; needs '
        'pip install tensorboard, or wandb',
    )
    parser.add_argument(
        '--no-check',
        action='store_true',
        help='start without a look at the config and the data; by default '
        'names, settings and a few images are examined first',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the config, for example '
        'train_dataloader.batch_size=4 or key="[(a,b),(c,d)]" (no blanks)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started this process, if it is one of several',
    )
    # torch.distributed.launch spells it with a hyphen, older ones without.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0)
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args: argparse.Namespace) -> Config:
    """Return the config with the command line's wishes in it."""
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.seed is not None:
        cfg.randomness = dict(cfg.get('randomness', {}), seed=args.seed)
    if args.amp is not None:
        use_mixed_precision(cfg, args.amp)
    if args.resume is not None:
        resume_from(cfg, args.resume)
    for name in args.log:
        log_to(cfg, name)
    return cfg


def log_to(cfg: Config, name: str) -> None:
    """Let the visualizer of the config write to one place more."""
    visualizer = cfg.setdefault('visualizer', dict(type='Visualizer'))
    backends = visualizer.get('vis_backends') or [dict(type='LocalVisBackend')]
    if all(backend['type'] != LOGS[name] for backend in backends):
        backends = [*backends, dict(type=LOGS[name])]
    visualizer['vis_backends'] = backends


def use_mixed_precision(cfg: Config, precision: str) -> None:
    """Switch the optimizer wrapper of the config to mixed precision.

    Raises:
        ValueError: If it is a wrapper that has no counterpart, or if there is
            no device that mmengine's wrapper works on.
    """
    device = get_device()
    if device not in AMP_DEVICES:
        raise ValueError(
            f'--amp {precision}: mmengine trains in mixed precision on '
            f'{", ".join(AMP_DEVICES)}, and this process runs on {device!r}; '
            'leave --amp out, or start it where such a device is visible.'
        )
    wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if wrapper not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(
            f'--amp replaces OptimWrapper, and the config has {wrapper!r}; '
            'leave --amp out and set optim_wrapper in the config.'
        )
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    if precision == 'bf16':
        # It has the range of float32. The wrapper always makes a GradScaler,
        # and these are the scaler's arguments.
        cfg.optim_wrapper.dtype = 'bfloat16'
        cfg.optim_wrapper.loss_scale = dict(enabled=False)
    else:
        cfg.optim_wrapper.dtype = 'float16'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def resume_from(cfg: Config, checkpoint: str) -> None:
    """Make the config continue from a checkpoint, or from the latest one."""
    if checkpoint == 'auto':
        latest = find_latest_checkpoint(cfg.work_dir)
        if latest is None:
            print_log(
                f'--resume: no checkpoint in {cfg.work_dir}, training starts '
                'from the beginning',
                logger='current',
            )
            return
        checkpoint = latest
    # Without load_from, mmengine looks for the latest checkpoint itself; with
    # one it resumes from there, be it the pretrained weights of the config.
    cfg.load_from = checkpoint
    cfg.resume = True
    seed = cfg.get('randomness', {}).get('seed')
    if seed is None and Path(checkpoint).is_file():
        # mmengine takes it from there too late, when data are loaded already
        content = load_untrusted(checkpoint, use_mmap=True)
        seed = content.get('meta', {}).get('seed')
        cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)


def check_names(cfg: Config) -> None:
    """Stop with a sentence where the config names what does not exist."""
    try:
        reject_unknown_names(cfg)
    except ConfigNameError as error:
        sys.exit(f'{error}\n--no-check trains all the same')


def check_data(cfg: Config) -> None:
    """Stop with a sentence where the data would make training fail.

    Settings and a few images are looked at, by one process of several.
    """
    from mmfaseg.data_check import NUM_QUICK_IMAGES, check_dataset

    names = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
    rank = next((os.environ[x] for x in names if x in os.environ), '0')
    if 'decode_head' not in cfg.model or rank != '0':
        return
    try:
        report = check_dataset(cfg, ('train', 'val'), NUM_QUICK_IMAGES)
    except Exception as error:
        # training may know better what to do with an unusual data set
        print_log(
            f'the data could not be examined: {error!r}',
            logger='current',
            level=logging.WARNING,
        )
        return
    for diagnostic in report.diagnostics:
        if not diagnostic.is_error:
            print_log(str(diagnostic), logger='current', level=logging.WARNING)
    if report.errors:
        sys.exit(
            '\n'.join(
                [
                    *map(str, report.errors),
                    'tools/analysis_tools/check_dataset.py looks at every '
                    'image; --no-check trains all the same',
                ]
            )
        )


def main() -> None:
    """Train as the command line says."""
    args = parse_args()
    cfg = load_config(args)
    if not args.no_check:
        check_names(cfg)
        check_data(cfg)
    prepare_cpu_processes(cfg)
    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    runner = build(cfg)
    mmfaseg.log_stack_info()
    runner.train()
    destroy_process_group()


if __name__ == '__main__':
    main()
