"""Evaluates a checkpoint on the test split of a config."""

import argparse
import sys
from pathlib import Path

from mmengine.config import Config

from mmfaseg.checkpoints.compatibility import IncompatibleCheckpointError
from mmfaseg.utils.command_line import (
    add_run_arguments,
    build_runner,
    check_names,
    exit_on_user_errors,
    hide_known_warnings,
    load_run_config,
    make_folder,
)
from mmfaseg.utils.cpu_processes import destroy_process_group
from mmfaseg.utils.run_options import (
    check_loaded_weights,
    draw_predictions,
    predict_with_amp,
    remove_sharding,
    save_predictions,
    skip_labels,
    use_test_time_augmentation,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file or name')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='save predictions as label PNGs, or COCO JSON for detectors',
    )
    parser.add_argument(
        '--format-only',
        action='store_true',
        help='only save predictions, for images without labels; needs --out',
    )
    parser.add_argument(
        '--show', action='store_true', help='show predictions in a window'
    )
    parser.add_argument(
        '--show-dir',
        metavar='DIR',
        help='save visualizations to DIR/vis_data/vis_image',
    )
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2,
        help='seconds to display each image with --show (default: 2)',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='use test-time augmentation (tta_pipeline of the config)',
    )
    add_run_arguments(parser, 'test_dataloader.batch_size=4')
    args = parser.parse_args(argv)
    if args.format_only and args.out is None:
        parser.error('--format-only needs --out DIR')
    return args


def load_config(args: argparse.Namespace) -> Config:
    """Returns the config with the command line applied."""
    cfg = load_run_config(args)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    remove_sharding(cfg)
    if not args.no_check:
        check_loaded_weights(cfg)
    if args.show or args.show_dir is not None:
        draw_predictions(cfg, args.show, args.show_dir, args.wait_time)
    if args.tta:
        use_test_time_augmentation(cfg)
    if args.out is not None:
        save_predictions(cfg, args.out)
    if args.format_only:
        skip_labels(cfg)
    return cfg


def main(argv: list[str] | None = None) -> None:
    """Evaluates a checkpoint."""
    hide_known_warnings()
    args = parse_args(argv)
    with exit_on_user_errors():
        cfg = load_config(args)
    if not args.no_check:
        check_names(cfg)
    if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
        sys.exit(f'error: there is no checkpoint {args.checkpoint}')
    for folder in (args.out, args.show_dir):
        if folder is not None:
            make_folder(folder, 'output folder')
    runner = build_runner(cfg)
    if args.amp is not None:
        predict_with_amp(runner.model, args.amp)
    try:
        runner.test()
    except IncompatibleCheckpointError as error:
        sys.exit(f'error: {error}')
    except KeyError as error:
        if error.args != ('gt_sem_seg',):
            raise
        sys.exit(
            'error: the test pipeline loads no labels; use --format-only '
            '--out DIR to save predictions without metrics'
        )
    destroy_process_group()


if __name__ == '__main__':
    main()
