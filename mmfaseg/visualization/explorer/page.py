"""One page for explorations: in a file that opens offline, or from a server.

What the page shows is a JSON object; images and maps are PNGs inside it.
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

from .views import Exploration, LayerView

NONE = 255  # in the image of owners
PERCENTILE = 0.99
MEASURES = ('entropy', 'overlap', 'drift', 'turn', 'change')


def describe(explorations: Mapping[str, Exploration]) -> dict[str, Any]:
    """Returns what the page shows, ready for JSON.

    Args:
        explorations (Mapping[str, Exploration]): of one image, by the name
            of the network.
    """
    return {
        'models': [_model(name, x) for name, x in explorations.items()],
    }


def make_page(
    title: str,
    content: dict[str, Any] | None,
    examples: list[str] | None = None,
) -> str:
    """Returns the page, complete in itself.

    Args:
        title (str): heading.
        content (dict, optional): what :func:`describe` gives.
        examples (list[str], optional): names of images that a server
            offers; without, the page asks no server.
    """
    assets = files(__package__) / 'assets'
    colours = (colormaps['inferno'](np.arange(256))[:, :3] * 255).round()
    data = {
        'title': title,
        'heat': colours.astype(int).tolist(),
        'content': content,
        'examples': examples,
    }
    page = (assets / 'page.html').read_text(encoding='utf-8')
    for mark, text in (
        ('/* page.css */', (assets / 'page.css').read_text(encoding='utf-8')),
        ('/* draw.js */', (assets / 'draw.js').read_text(encoding='utf-8')),
        ('/* page.js */', (assets / 'page.js').read_text(encoding='utf-8')),
        ('"DATA"', _as_script(data)),
    ):
        page = page.replace(mark, text, 1)
    return page


def write_page(
    path: str | Path, title: str, explorations: Mapping[str, Exploration]
) -> Path:
    """Writes a page into one file that opens without a network.

    Args:
        path (str | Path): ends in ``.html``; its folder is made.
        title (str): heading.
        explorations (Mapping[str, Exploration]): see :func:`describe`.

    Raises:
        ValueError: if the file name does not end in ``.html``.
    """
    path = check_page_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    page = make_page(title, describe(explorations))
    path.write_text(page, encoding='utf-8')
    return path


def check_page_name(path: str | Path) -> Path:
    """Returns the path of a page; raises ValueError unless it is one."""
    path = Path(path)
    if path.suffix.lower() != '.html':
        raise ValueError(f'{path.name} has to end in .html')
    return path


def _as_script(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(
        data, ensure_ascii=False, allow_nan=False, separators=(',', ':')
    )
    return text.replace('<', '\\u003c')


def _model(name: str, view: Exploration) -> dict[str, Any]:
    labels = np.where(view.labels[..., None] < 0, 0, view.palette[view.labels])
    best = view.layers[-1].scores.argmax(1)
    names = [*view.classes, 'no object']
    return {
        'name': name,
        'size': list(view.image.shape[:2]),
        'image': _png(view.image[..., ::-1]),
        'labels': _png(labels[..., ::-1]),
        'owners': _png(np.where(view.owners < 0, NONE, view.owners)),
        'queries': [
            {
                'number': int(number),
                'name': names[best[n]],
                'colour': _colour(view.palette, best[n]),
                'share': round(float((view.owners == n).mean()), 4),
                'mask': _map(view.masks[n], (0, 1)),
                'best': _best(view.scores[n], names),
                'layers': [_layer(layer, n, names) for layer in view.layers],
            }
            for n, number in enumerate(view.queries)
        ],
        'layers': [
            {
                'number': layer.layer,
                'stride': layer.stride,
                'windows': [
                    [box.left, box.top, box.right, box.bottom]
                    for box in layer.windows
                ],
            }
            for layer in view.layers
        ],
    }


def _layer(layer: LayerView, n: int, names: list[str]) -> dict[str, Any]:
    return {
        'focus': _map(layer.attention[n]),
        'preference': _map(layer.preference[n]),
        'mask': _map(layer.masks[n], (0, 1)),
        'best': _best(layer.scores[n], names),
        'centre': [round(float(x), 1) for x in layer.centres[n]],
        **{name: _number(getattr(layer, name)[n]) for name in MEASURES},
    }


def _best(scores: np.ndarray, names: list[str]) -> list:
    label = int(scores.argmax())
    return [names[label], round(float(scores[label]), 3)]


def _colour(palette: np.ndarray, label: int) -> str:
    if label >= len(palette):
        return '#888888'
    return '#' + ''.join(f'{x:02x}' for x in palette[label])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _map(
    values: np.ndarray, span: tuple[float, float] | None = None
) -> dict[str, Any]:
    """A map in grey, what black and white stand for, and its largest value.

    Most of an attention lies far below its peak. Where no span is given, all
    from the 99th percentile of what is not zero on is white, and grey the
    square root of the share.
    """
    low, top = span or _span(values)
    grey = ((values - low) / max(top - low, 1e-12)).clip(0, 1)
    grey = 255 * (grey if span else np.sqrt(grey))
    return {
        'png': _png(grey.round()),
        'shape': list(values.shape),
        'span': [_round(low), _round(top)],
        'top': _round(values.max()),
    }


def _span(values: np.ndarray) -> tuple[float, float]:
    top = np.quantile(values[values > 0], PERCENTILE)
    return float(values.min()), float(top)


def _round(value: float) -> float:
    return float(f'{value:.2g}')


def _png(image: np.ndarray) -> str:
    """A data URI; colours are expected in OpenCV's order."""
    done, content = cv2.imencode('.png', image.astype(np.uint8))
    assert done  # PNG takes every array of bytes
    encoded = base64.b64encode(content.tobytes()).decode('ascii')
    return f'data:image/png;base64,{encoded}'
