"""Shows where the queries of one or two networks attend, on a web page.

``mmfaseg explore MODEL IMAGE --out focus.html`` writes the page to a file that
opens offline. ``mmfaseg explore MODEL --serve`` starts a server for uploaded
images.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmfaseg.utils.command_line import (
    INFERENCE_ERRORS,
    exit_on_user_errors,
    hide_known_warnings,
)

if TYPE_CHECKING:
    from mmfaseg.apis import FASegInferencer

LOCAL_HOSTS = ('localhost', '127.0.0.1')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    from mmfaseg.visualization.explorer import MAX_QUERIES

    parser = argparse.ArgumentParser(
        prog='mmfaseg explore',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'model', help='work dir, config file, or name of a config'
    )
    parser.add_argument(
        'images',
        nargs='*',
        metavar='IMAGE',
        help='image file; with --serve, files or folders of example images',
    )
    parser.add_argument(
        '--weights', help='checkpoint; by default that of the work dir'
    )
    parser.add_argument(
        '--compare',
        metavar='MODEL',
        help='second model to show next to the first, such as the '
        'Mask2Former of configs/ablations',
    )
    parser.add_argument(
        '--compare-weights', help='checkpoint of the second model'
    )
    parser.add_argument('--device', help='for example cpu or cuda:1')
    parser.add_argument(
        '--out',
        type=Path,
        default='focus.html',
        metavar='FILE',
        help='HTML file to write (default: focus.html)',
    )
    parser.add_argument(
        '--max-queries',
        type=int,
        default=MAX_QUERIES,
        help='maximum number of queries, those with the most pixels first '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--serve', action='store_true', help='start a web server'
    )
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address of the server, which has no password (default: '
        '127.0.0.1, for this machine only)',
    )
    parser.add_argument(
        '--port',
        type=int,
        default=7860,
        help='port of the server (default: 7860)',
    )
    return parser.parse_args(argv)


def load_models(args: argparse.Namespace) -> 'dict[str, FASegInferencer]':
    """Loads the models and returns them by config name.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If a head has no FASegDecoder, or if ``--compare-weights``
            is given without ``--compare``.
    """
    from mmfaseg.apis import FASegInferencer
    from mmfaseg.visualization.decoder_trace import find_traceable_head

    if args.compare_weights is not None and args.compare is None:
        raise ValueError('--compare-weights requires --compare')
    found: dict[str, FASegInferencer] = {}
    models = [(args.model, args.weights), (args.compare, args.compare_weights)]
    for model, weights in models[: 1 if args.compare is None else 2]:
        network = FASegInferencer(model, weights, args.device)
        find_traceable_head(network.model)  # raises if there is none
        name = Path(network.model.cfg.filename).stem
        found[f'{name} (2)' if name in found else name] = network
    return found


def write(args: argparse.Namespace) -> None:
    """Writes the page of one image."""
    from mmfaseg.visualization.explorer import check_page_name, write_page

    if len(args.images) != 1:
        raise ValueError(
            f'got {len(args.images)} images; pass one image, or use --serve'
        )
    image = Path(args.images[0])
    if not image.is_file():
        raise FileNotFoundError(f'there is no file {image}')
    check_page_name(args.out)
    explorations = {
        name: network.explore(image, args.max_queries)
        for name, network in load_models(args).items()
    }
    title = f'Focus explorer: {image.name}'
    path = write_page(args.out, title, explorations)
    for name, found in explorations.items():
        sys.stdout.write(f'{name}: {len(found.queries)} queries\n')
    sys.stdout.write(f'wrote {path}: open it in a browser\n')


def serve(args: argparse.Namespace) -> None:
    """Serves the page until interrupted."""
    try:
        import uvicorn

        from mmfaseg.apis.explorer_server import make_app
    except ModuleNotFoundError as error:
        if error.name not in ('uvicorn', 'starlette'):
            raise
        raise ValueError(
            f'{error}; --serve needs: pip install starlette uvicorn'
        ) from error
    from mmfaseg.apis.sources import list_images

    models = load_models(args)
    suffixes = {x for model in models.values() for x in model.loader.suffixes}
    examples = [
        path
        for each in args.images
        for path in list_images(each, tuple(sorted(suffixes)))
    ]
    is_public = args.host in ('0.0.0.0', '::', '')
    host = args.host.lower()
    if ':' in host:  # IPv6, as in URLs
        host = f'[{host}]'
    hosts = ('*',) if is_public else (*LOCAL_HOSTS, host)
    app = make_app(models, examples, hosts, max_queries=args.max_queries)
    uvicorn.run(app, host=args.host, port=args.port, log_level='info')


def main(argv: list[str] | None = None) -> None:
    """Writes or serves the page; exits with a message on errors."""
    hide_known_warnings()
    args = parse_args(argv)
    with exit_on_user_errors(INFERENCE_ERRORS):
        (serve if args.serve else write)(args)


if __name__ == '__main__':
    main()
