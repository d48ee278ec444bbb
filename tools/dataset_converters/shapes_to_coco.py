"""Converts the Shapes dataset to COCO format for the detection configs."""

import argparse

from mmfaseg.utils.command_line import exit_on_user_errors, hide_known_warnings

LENGTHS = dict(train=2000, val=100, test=500)  # as in shapes-128x128.py


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out',
        default='data/shapes_coco',
        metavar='DIR',
        help='output folder (default: %(default)s, as in the configs)',
    )
    parser.add_argument(
        '--image-size',
        nargs=2,
        type=int,
        default=[128, 128],
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images in pixels (default: 128 128)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the images (default: 0)'
    )
    for split, length in LENGTHS.items():
        parser.add_argument(
            f'--{split}',
            type=int,
            default=length,
            metavar='N',
            help=f'number of {split} images (default: {length})',
        )
    return parser.parse_args(argv)


def main() -> None:
    """Writes all splits."""
    hide_known_warnings()
    args = parse_args()
    from mmfaseg.datasets.shapes_coco import write_shapes_coco

    image_size = tuple(args.image_size)
    with exit_on_user_errors():
        for split in LENGTHS:
            length = getattr(args, split)
            write_shapes_coco(args.out, split, length, image_size, args.seed)


if __name__ == '__main__':
    main()
