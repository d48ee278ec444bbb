"""Evaluates a checkpoint on the test split of a config."""

import argparse
import os
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn

import mmfaseg
from mmfaseg.utils.config_names import ConfigNameError, reject_unknown_names
from mmfaseg.utils.cpu_processes import (
    destroy_process_group,
    prepare_cpu_processes,
)

AMP_DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--work-dir',
        help='where logs and metrics go; by default what the config says, '
        'else work_dirs/NAME_OF_CONFIG',
    )
    parser.add_argument(
        '--out',
        metavar='DIR',
        help="write predictions: label PNGs, or COCO's JSON of a detector",
    )
    parser.add_argument(
        '--show', action='store_true', help='show predictions in a window'
    )
    parser.add_argument(
        '--show-dir',
        metavar='DIR',
        help='draw predictions into DIR/vis_data/vis_image',
    )
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2,
        help='seconds that --show leaves an image (default: 2)',
    )
    parser.add_argument(
        '--tta', action='store_true', help="use the config's tta_pipeline"
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='fp16',
        choices=list(AMP_DTYPES),
        help='predict in mixed precision: float16, also without a value, or '
        'bfloat16',
    )
    parser.add_argument(
        '--no-check',
        action='store_true',
        help='start without a look for misspelt names in the config',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the config, for example '
        'test_dataloader.batch_size=4 or key="[(a,b),(c,d)]" (no blanks)',
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
    cfg.load_from = args.checkpoint
    cfg.resume = False
    strategy = cfg.get('strategy') or {}
    if str(strategy.get('type')).endswith('FullyShardStrategy'):
        # it shards what is trained; what is tested is whole
        cfg.pop('strategy')
        cfg.pop('runner_type', None)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.show or args.show_dir is not None:
        draw_predictions(cfg, args.show, args.show_dir, args.wait_time)
    if args.tta:
        use_test_time_augmentation(cfg)
    if args.out is not None:
        keep_predictions(cfg, args.out)
    return cfg


def draw_predictions(
    cfg: Config, show: bool, show_dir: str | None, wait_time: float
) -> None:
    """Make the config's visualization hook draw every image.

    Raises:
        ValueError: If the config has no such hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise ValueError(
            '--show and --show-dir need default_hooks.visualization in the '
            "config, for example dict(type='mmfaseg.DrawSegmentationHook')."
        )
    hook.update(draw=True, interval=1)
    if show:
        hook.update(show=True, wait_time=wait_time)
    if show_dir is not None:
        cfg.visualizer.save_dir = show_dir


def use_test_time_augmentation(cfg: Config) -> None:
    """Test on several versions of each image and merge the predictions.

    Raises:
        ValueError: If the config does not say how.
    """
    keys = ('tta_model', 'tta_pipeline')
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise ValueError(f'--tta needs {" and ".join(missing)} in the config.')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def keep_predictions(cfg: Config, directory: str) -> None:
    """Make the metric of the config write the predictions it is given.

    Raises:
        ValueError: If the config tests with several metrics.
    """
    if not isinstance(cfg.test_evaluator, dict):
        raise ValueError(
            '--out needs one metric, and test_evaluator is a list; give '
            'output_dir to one of its metrics in the config instead.'
        )
    if cfg.test_evaluator.type.startswith('Coco'):  # mmdet's
        cfg.test_evaluator.outfile_prefix = str(Path(directory) / 'results')
    else:
        cfg.test_evaluator.output_dir = directory


def use_mixed_precision(model: nn.Module, precision: str) -> None:
    """Make the model predict in mixed precision.

    The test loop of mmengine has a switch for it, but none for the dtype.
    """
    autocast = torch.autocast(get_device(), AMP_DTYPES[precision])
    model.test_step = autocast(model.test_step)


def check_names(cfg: Config) -> None:
    """Stop with a sentence where the config names what does not exist."""
    try:
        reject_unknown_names(cfg)
    except ConfigNameError as error:
        sys.exit(f'{error}\n--no-check tests all the same')


def main() -> None:
    """Test as the command line says."""
    args = parse_args()
    cfg = load_config(args)
    if not args.no_check:
        check_names(cfg)
    prepare_cpu_processes(cfg)
    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    runner = build(cfg)
    if args.amp is not None:
        use_mixed_precision(runner.model, args.amp)
    mmfaseg.log_stack_info()
    runner.test()
    destroy_process_group()


if __name__ == '__main__':
    main()
