"""Trains a model from a config."""

import argparse
import sys

from mmengine.config import Config

from mmfaseg.checkpoints.compatibility import IncompatibleCheckpointError
from mmfaseg.compat.checkpoints import DownloadError
from mmfaseg.utils.command_line import (
    add_run_arguments,
    build_runner,
    check_data,
    check_names,
    exit_on_user_errors,
    hide_known_warnings,
    load_run_config,
)
from mmfaseg.utils.cpu_processes import destroy_process_group
from mmfaseg.utils.run_options import (
    LOGGERS,
    add_logger,
    resume_from,
    train_with_amp,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file or name')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint, or by default from the latest one '
        'in the work dir, if any',
    )
    parser.add_argument('--seed', type=int, help='random seed')
    parser.add_argument(
        '--log',
        nargs='+',
        choices=list(LOGGERS),
        default=[],
        help='additional loggers; require pip install tensorboard or wandb',
    )
    add_run_arguments(parser, 'train_dataloader.batch_size=4')
    return parser.parse_args(argv)


def load_config(args: argparse.Namespace) -> Config:
    """Returns the config with the command line applied."""
    cfg = load_run_config(args)
    if args.seed is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=args.seed)
    if args.amp is not None:
        train_with_amp(cfg, args.amp)
    if args.resume is not None:
        resume_from(cfg, args.resume)
    for name in args.log:
        add_logger(cfg, name)
    return cfg


def main(argv: list[str] | None = None) -> None:
    """Trains a model."""
    hide_known_warnings()
    args = parse_args(argv)
    with exit_on_user_errors():
        cfg = load_config(args)
    if not args.no_check:
        check_names(cfg)
        check_data(cfg)
    try:
        build_runner(cfg).train()
    except (DownloadError, IncompatibleCheckpointError) as error:
        sys.exit(f'error: {error}')
    destroy_process_group()


if __name__ == '__main__':
    main()
