"""The explorer page: a file that opens offline, or the page of a server.

The page shows a JSON object with images and maps as PNG data URIs.
"""

import base64
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from ..attention_maps import COLOR_MAP, DENSITY_RANGE, to_density, to_scale
from .measures import NEARLY_UNIFORM
from .views import Exploration, LayerView

NO_OWNER = 255  # in the image of owners
MEASURES = ('entropy', 'overlap', 'drift', 'turn', 'change')


def describe(explorations: Mapping[str, Exploration]) -> dict[str, Any]:
    """Returns the content of the page, ready for JSON.

    The explorations are those of one image, by name of the network.
    """
    models = [_describe_model(name, x) for name, x in explorations.items()]
    return {'models': models}


def make_page(
    title: str,
    content: dict[str, Any] | None,
    examples: list[str] | None = None,
) -> str:
    """Returns the page as HTML without external resources.

    Args:
        title (str): Heading.
        content (dict, optional): Result of :func:`describe`.
        examples (list[str], optional): Names of images that a server offers;
            without them, the page sends no requests.
    """
    assets = files(__package__) / 'assets'
    colors = 255 * colormaps[COLOR_MAP](np.arange(256))[:, :3]
    data = {
        'title': title,
        'heat': colors.round().astype(int).tolist(),
        'range': DENSITY_RANGE,
        'nearlyUniform': NEARLY_UNIFORM,
        'content': content,
        'examples': examples,
    }
    page = (assets / 'page.html').read_text(encoding='utf-8')
    for name in ('page.css', 'draw.js', 'page.js'):
        text = (assets / name).read_text(encoding='utf-8')
        page = page.replace(f'/* {name} */', text, 1)
    return page.replace('"DATA"', _to_script(data), 1)


def write_page(
    path: str | Path, title: str, explorations: Mapping[str, Exploration]
) -> Path:
    """Writes the page to a file that opens offline.

    Args:
        path (str | Path): Ends in ``.html``; its folder is created if it is
            missing.
        title (str): Heading.
        explorations (Mapping[str, Exploration]): See :func:`describe`.

    Raises:
        ValueError: If the file name does not end in ``.html``.
    """
    path = check_page_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    page = make_page(title, describe(explorations))
    path.write_text(page, encoding='utf-8')
    return path


def check_page_name(path: str | Path) -> Path:
    """Returns the path; raises ValueError unless it ends in ``.html``."""
    path = Path(path)
    if path.suffix.lower() != '.html':
        raise ValueError(f'{path.name} must end in .html')
    return path


def _to_script(data: dict[str, Any]) -> str:
    """Returns JSON that cannot close the script element around it."""
    text = json.dumps(
        data, ensure_ascii=False, allow_nan=False, separators=(',', ':')
    )
    return text.replace('<', '\\u003c')


def _describe_model(name: str, view: Exploration) -> dict[str, Any]:
    labels = np.where(view.labels[..., None] < 0, 0, view.palette[view.labels])
    best = view.layers[-1].scores.argmax(1)
    names = [*view.classes, 'no object']
    colors = [*map(to_hex, view.palette / 255), '#888888']
    return {
        'name': name,
        'size': list(view.image.shape[:2]),
        'image': _to_png(view.image[..., ::-1]),
        'labels': _to_png(labels[..., ::-1]),
        'owners': _to_png(np.where(view.owners < 0, NO_OWNER, view.owners)),
        'queries': [
            {
                'number': int(number),
                'name': names[best[n]],
                'color': colors[best[n]],
                'share': round(float((view.owners == n).mean()), 4),
                'best': _best_class(view.scores[n], names),
                'layers': [
                    _describe_layer(layer, n, names) for layer in view.layers
                ],
            }
            for n, number in enumerate(view.queries)
        ],
        'layers': [
            {
                'number': layer.layer,
                'stride': layer.stride,
                'windows': [list(box[1:]) for box in layer.windows],
            }
            for layer in view.layers
        ],
    }


def _describe_layer(
    layer: LayerView, n: int, names: list[str]
) -> dict[str, Any]:
    measures = {name: getattr(layer, name)[n] for name in MEASURES}
    return {
        'focus': _describe_attention(layer.attention[n]),
        'preference': _describe_attention(layer.preference[n]),
        'mask': _to_png(255 * layer.masks[n]),
        'best': _best_class(layer.scores[n], names),
        'center': [round(float(x), 1) for x in layer.centers[n]],
        **{
            name: None if np.isnan(value) else round(float(value), 4)
            for name, value in measures.items()
        },
    }


def _describe_attention(attention: np.ndarray) -> dict[str, Any]:
    """Returns a map on the fixed scale, and its maximum."""
    density = to_density(attention)
    peak = float(f'{density.max():.2g}')
    return {'png': _to_png(255 * to_scale(density)), 'peak': peak}


def _best_class(scores: np.ndarray, names: list[str]) -> list:
    label = int(scores.argmax())
    return [names[label], round(float(scores[label]), 3)]


def _to_png(image: np.ndarray) -> str:
    """Returns a data URI; colors are in BGR order."""
    done, content = cv2.imencode('.png', image.round().astype(np.uint8))
    assert done  # any uint8 array can be encoded as PNG
    encoded = base64.b64encode(content.tobytes()).decode('ascii')
    return f'data:image/png;base64,{encoded}'
