"""Web server of the explorer page, for one or two networks."""

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ..visualization.explorer import MAX_QUERIES, describe, make_page
from .inferencer import FASegInferencer

TITLE = 'Focus explorer'
MAX_BYTES = 32 * 1024**2
MAX_PIXELS = 2048**2


def make_app(
    networks: Mapping[str, FASegInferencer],
    examples: Sequence[Path] = (),
    hosts: Sequence[str] = ('localhost', '127.0.0.1'),
    max_queries: int = MAX_QUERIES,
) -> Starlette:
    """Returns the ASGI application, for uvicorn or another server.

    ``GET /`` returns the page. ``POST /explore?name=FILE`` explores an
    uploaded image, ``POST /explore/N`` the N-th example. Both return the
    result of :func:`mmfaseg.visualization.explorer.describe`, or a message as
    ``error``. Images are processed one by one. Each is written to a
    temporary file with the suffix of its name, which is deleted afterwards.
    Cross-origin requests are rejected.

    Args:
        networks (Mapping[str, FASegInferencer]): Networks by name, which are
            shown side by side.
        examples (Sequence[Path]): Image files to choose from.
        hosts (Sequence[str]): Allowed host names; ``['*']`` allows any.
        max_queries (int): See :meth:`FASegInferencer.explore`.
    """
    page = make_page(TITLE, None, [path.name for path in examples])
    lock = Lock()
    is_color = all(x.loader.channels == 3 for x in networks.values())

    def explore_bytes(content: bytes, name: str) -> dict[str, Any]:
        _check_size(content, name, is_color)
        with lock, tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'image' + ''.join(Path(name).suffixes))
            path.write_bytes(content)  # loading transforms read files
            try:
                found = {
                    key: network.explore(path, max_queries)
                    for key, network in networks.items()
                }
            except ValueError as error:
                text = str(error).replace(str(path), name)
                raise ValueError(text) from error
            return describe(found)

    async def index(request: Request) -> Response:
        return HTMLResponse(page)

    async def explore(request: Request) -> Response:
        if _is_cross_origin(request):
            raise HTTPException(403, 'cross-origin requests are not allowed')
        number = request.path_params.get('number')
        if number is None:
            name = request.query_params.get('name') or 'the uploaded file'
            content = await _read_upload(request)
        else:
            try:
                name = examples[number].name
                content = examples[number].read_bytes()
            except (IndexError, OSError) as error:
                raise HTTPException(
                    404, f'example {number} cannot be read'
                ) from error
        try:
            return JSONResponse(
                await run_in_threadpool(explore_bytes, content, name)
            )
        except ValueError as error:
            raise HTTPException(400, str(error)) from error

    return Starlette(
        routes=[
            Route('/', index),
            Route('/explore', explore, methods=['POST']),
            Route('/explore/{number:int}', explore, methods=['POST']),
        ],
        exception_handlers={HTTPException: _respond, Exception: _respond},
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
        ],
    )


async def _read_upload(request: Request) -> bytes:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BYTES:
            raise HTTPException(
                413, f'the file is larger than {MAX_BYTES >> 20} MiB'
            )
    return bytes(content)


def _check_size(content: bytes, name: str, is_color: bool) -> None:
    """Raises ValueError if an image has too many pixels, without decoding.

    Color images must have a format that Pillow reads. Of others, such as .npy
    and TIFF with many channels, only the size of the file is limited.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise ValueError(f'{name}: {error}') from error
    except OSError as error:
        if not is_color:
            return
        raise ValueError(
            f'{name} cannot be read as an image: it is damaged or has an '
            'unknown format'
        ) from error
    if width * height > MAX_PIXELS:
        raise ValueError(
            f'{name} has {width}x{height} pixels; the limit is {MAX_PIXELS}: '
            'resize it'
        )


def _is_cross_origin(request: Request) -> bool:
    """Returns whether a page of another origin sent the request."""
    headers = request.headers
    if headers.get('sec-fetch-site', 'none') not in ('same-origin', 'none'):
        return True
    origin = headers.get('origin')
    return origin is not None and (
        origin.split('://')[-1] != headers.get('host')
    )


async def _respond(request: Request, error: Exception) -> Response:
    """Responds to an error; starlette logs the unexpected ones."""
    if isinstance(error, HTTPException):
        return JSONResponse({'error': error.detail}, error.status_code)
    text = f'the server failed: {type(error).__name__}'
    if isinstance(error, RuntimeError):  # such as out of memory
        reason = str(error).partition('\n')[0]
        text = f'{text}: {reason}'
    return JSONResponse({'error': text}, 500)
