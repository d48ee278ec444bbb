"""Writes a training config for a folder of images and a folder of masks.

Masks contain the class index of each pixel, or 255 for ignored pixels. Use
--remap or --colors to convert other masks.
"""

import argparse
import shlex
import sys
from pathlib import Path

from mmfaseg.utils.command_line import (
    exit_on_user_errors,
    hide_known_warnings,
    positive_int,
)


def parse_pair(text: str) -> tuple[int, int]:
    """Parses ``OLD=NEW``."""
    try:
        old, new = map(int, text.split('='))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a pair of labels such as 255=1'
        ) from None
    return old, new


def parse_color(text: str) -> tuple[int, ...]:
    """Parses ``RRGGBB``."""
    try:
        red, green, blue = bytes.fromhex(text.lstrip('#'))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a color of six hexadecimal digits such as ff8000'
        ) from None
    return red, green, blue


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    from mmfaseg.data_check.config_template import MODELS

    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('images', type=Path, help='folder of images')
    add('masks', type=Path, help='folder of masks')
    add('config', type=Path, help='config file to write, .py')
    add(
        '--classes',
        nargs='+',
        required=True,
        metavar='NAME',
        help='class names in the order of their indices, from 0',
    )
    add(
        '--out',
        type=Path,
        help='folder for split lists and converted masks '
        '(default: data/CONFIG_NAME)',
    )
    add(
        '--val',
        type=float,
        default=0.2,
        dest='val_share',
        metavar='SHARE',
        help='fraction of validation images, unless there are folders train '
        'and val (default: %(default)s)',
    )
    add(
        '--seed',
        type=int,
        default=0,
        help='random seed of the split (default: 0)',
    )
    add(
        '--remap',
        nargs='+',
        type=parse_pair,
        default=[],
        metavar='OLD=NEW',
        help='labels to replace, such as 255=1 for masks with 0 and 255',
    )
    add(
        '--colors',
        nargs='+',
        type=parse_color,
        metavar='RRGGBB',
        help='color of each class in the masks, in the order of --classes',
    )
    add(
        '--model',
        choices=MODELS,
        default='r50',
        help='for a CPU: efficientnet-lite0, which is pretrained, or small, '
        'which is not (default: %(default)s)',
    )
    add(
        '--iterations',
        type=positive_int,
        default=20000,
        help='number of training iterations (default: %(default)s)',
    )
    add(
        '--batch',
        type=positive_int,
        default=8,
        dest='batch_size',
        help='batch size per GPU (default: %(default)s)',
    )
    args = parser.parse_args(argv)
    args.remap = dict(args.remap)
    if args.out is None:
        args.out = Path('data') / args.config.stem
    return args


def main(argv: list[str] | None = None) -> None:
    """Writes and checks the config and prints the next commands."""
    hide_known_warnings()
    from mmengine.config import Config

    from mmfaseg.data_check import check_dataset, create_dataset

    args = parse_args(argv)
    with exit_on_user_errors():
        pairs = create_dataset(**vars(args))
    for split, names in pairs.names.items():
        print(f'{split}: {len(names)} images')
    if pairs.num_unused_masks:
        print(f'masks without an image: {pairs.num_unused_masks}')
    report = check_dataset(Config.fromfile(args.config), limit=50)
    for diagnostic in report.diagnostics:
        print(diagnostic)
    config = shlex.quote(str(args.config))
    print(f'wrote {args.config}; next commands:')
    print(f'  mmfaseg check-data {config} --out classes.png')
    print(f'  mmfaseg train {config}')
    sys.exit(1 if report.errors else 0)


if __name__ == '__main__':
    main()
