"""A web page that shows where queries look: ``python -m mmfaseg.demo``."""

import argparse
import sys
from pathlib import Path

LOCAL = ('localhost', '127.0.0.1')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    from mmfaseg.apis.networks import add_model_arguments

    parser = argparse.ArgumentParser(
        prog='python -m mmfaseg.demo',
        description='Serves a web page: upload an image, click a pixel, '
        'slide through the blocks.',
    )
    add_model_arguments(parser)
    parser.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='PATH',
        help='files or folders of images to choose from',
    )
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen at; the page asks nobody for a password',
    )
    parser.add_argument('--port', type=int, default=7860)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Serve until interrupted, or say in one sentence why not."""
    from mmfaseg.utils.command_line import hide_known_warnings

    hide_known_warnings()
    args = parse_args(argv)
    try:
        import uvicorn

        from mmfaseg.apis.explorer_server import make_app
    except ModuleNotFoundError as error:
        if error.name not in ('uvicorn', 'starlette'):
            raise
        sys.exit(
            f'error: {error}; the page needs a web server: '
            'pip install starlette uvicorn'
        )
    from mmfaseg.apis.networks import load_models
    from mmfaseg.apis.sources import list_images

    try:
        examples: list[Path] = [
            path for each in args.images for path in list_images(each)
        ]
        networks = load_models(args)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        sys.exit(f'error: {error}')
    everywhere = args.host in ('0.0.0.0', '::', '')
    hosts = ('*',) if everywhere else (*LOCAL, args.host)
    uvicorn.run(
        make_app(networks, examples, hosts),
        host=args.host,
        port=args.port,
        log_level='info',
    )


if __name__ == '__main__':
    main()
