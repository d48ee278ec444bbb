"""Shows how the queries of an image came to their answers.

``python -m mmfaseg.explore WORK_DIR IMAGE --out focus.html`` writes one
file that opens in a browser, without a network.
"""

import argparse
import sys
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    from mmfaseg.apis.networks import add_model_arguments
    from mmfaseg.visualization.explorer import MAX_QUERIES

    parser = argparse.ArgumentParser(
        prog='python -m mmfaseg.explore',
        description='Writes a page about where the queries look in an image.',
    )
    add_model_arguments(parser)
    parser.add_argument('image', type=Path, help='file of the image')
    parser.add_argument(
        '--out',
        type=Path,
        default='focus.html',
        metavar='FILE',
        help='the page, .html',
    )
    parser.add_argument(
        '--max-queries',
        type=int,
        default=MAX_QUERIES,
        help='that answer for most pixels',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Write the page, or say in one sentence why not."""
    from mmfaseg.apis.networks import load_models
    from mmfaseg.utils.command_line import hide_known_warnings
    from mmfaseg.visualization.explorer import check_page_name, write_page

    hide_known_warnings()
    args = parse_args(argv)
    try:
        if not args.image.is_file():
            raise FileNotFoundError(f'there is no file {args.image}')
        check_page_name(args.out)
        explorations = {
            name: network.explore(args.image, args.max_queries)
            for name, network in load_models(args).items()
        }
        title = f'Where a query looks: {args.image.name}'
        path = write_page(args.out, title, explorations)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        sys.exit(f'error: {error}')
    for name, found in explorations.items():
        sys.stdout.write(
            f'{name}: {len(found.queries)} queries, '
            f'{len(found.layers)} layers\n'
        )
    sys.stdout.write(f'open {path} in a browser\n')


if __name__ == '__main__':
    main()
