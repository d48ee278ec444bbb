"""Segments images with a trained network, ``mmfaseg infer MODEL images/``."""

import argparse
import contextlib
import itertools
import sys
from pathlib import Path

from mmfaseg.utils.command_line import (
    INFERENCE_ERRORS,
    add_cfg_options,
    exit_on_user_errors,
    hide_known_warnings,
    make_folder,
    positive_int,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        prog='mmfaseg infer',
        description='Segments images with a trained network.',
    )
    parser.add_argument(
        'model', help='work dir, config file, or name of a config'
    )
    parser.add_argument(
        'inputs',
        nargs='+',
        help='images, videos, folders, glob patterns, "webcam", or the index '
        'of a camera',
    )
    parser.add_argument(
        '--weights', help='checkpoint; by default that of the work dir'
    )
    parser.add_argument(
        '--out',
        default='inferred',
        metavar='DIR',
        help='output folder (default: inferred)',
    )
    parser.add_argument('--device', help='for example cpu or cuda:1')
    parser.add_argument(
        '--batch-size',
        type=positive_int,
        default=1,
        help='number of images per forward pass (default: 1)',
    )
    parser.add_argument(
        '--no-overlay', action='store_true', help='write label maps only'
    )
    parser.add_argument(
        '--probabilities',
        action='store_true',
        help='also write class probabilities, as npz',
    )
    parser.add_argument(
        '--focus',
        action='store_true',
        help='also write figures of where the queries attend',
    )
    parser.add_argument(
        '--max-frames',
        type=positive_int,
        help='stop after this number of images, for example of a camera',
    )
    add_cfg_options(parser, 'model.test_cfg.mode=whole')
    return parser.parse_args(argv)


def _camera_or_path(text: str) -> int | str:
    is_camera = text.isdecimal() and not Path(text).exists()
    return int(text) if is_camera else text


def main(argv: list[str] | None = None) -> None:
    """Segments the inputs; exits with a message on errors."""
    hide_known_warnings()
    from mmfaseg.apis import FASegInferencer

    args = parse_args(argv)
    make_folder(args.out, 'output folder')
    count = 0
    # an interrupt ends a camera stream
    with (
        exit_on_user_errors(INFERENCE_ERRORS),
        contextlib.suppress(KeyboardInterrupt),
    ):
        inferencer = FASegInferencer(
            args.model, args.weights, args.device, args.cfg_options
        )
        found = inferencer.iterate(
            [_camera_or_path(x) for x in args.inputs],
            args.batch_size,
            args.out,
            overlay=not args.no_overlay,
            probabilities=args.probabilities,
            focus=args.focus,
            progress=True,
        )
        for _ in itertools.islice(found, args.max_frames):
            count += 1
        found.close()  # type: ignore[attr-defined]
    sys.stdout.write(f'segmented images: {count}, results in {args.out}\n')


if __name__ == '__main__':
    main()
