"""Panels, colors and files shared by all figures.

Only matplotlib's object-oriented interface is used, which needs no display
and does not change the global state of pyplot.

Shapes:
    H, W: height and width of an image in pixels.
    K: number of classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WIDTH = 7.2  # inches, about 700 pixels, so that pages do not scale the fonts
DPI = 100
GAP = 0.06  # inches
FONT_SIZE = 8.5
GOLDEN_RATIO = 0.618034  # spreads any number of hues evenly


def make_panels(
    rows: int,
    columns: int,
    aspect: float,
    head: float = 0.25,
    footer: float = 0.1,
) -> tuple[Figure, np.ndarray]:
    """Makes a grid of empty panels for images.

    The height of a panel is ``aspect`` times its width. There are ``head``
    inches above each panel and ``footer`` inches below the last row.

    Returns:
        tuple[Figure, np.ndarray]: The figure and its axes, shape
        (rows, columns).
    """
    width = (WIDTH - GAP * (columns + 1)) / columns
    height = width * aspect
    total = rows * (height + head) + footer
    figure = Figure(figsize=(WIDTH, total), dpi=DPI, facecolor='white')
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw=dict(
            left=GAP / WIDTH,
            right=1 - GAP / WIDTH,
            top=1 - head / total,
            bottom=footer / total,
            wspace=GAP / width,
            hspace=head / height,
        ),
    )
    for axes in panels.flat:
        axes.set_axis_off()
    return figure, panels


def show_image(
    axes: Axes, image: np.ndarray, title: str = '', bold: bool = False
) -> None:
    """Shows an RGB image, uint8, (H, W, 3), below its title.

    The data coordinates become pixels, with the top left corner at (0, 0).
    """
    height, width = image.shape[:2]
    axes.imshow(image, extent=(0, width, height, 0))
    weight = 'bold' if bold else 'normal'
    axes.set_title(title, fontsize=FONT_SIZE, weight=weight, pad=3)


def draw_outline(axes: Axes, mask: np.ndarray, **style: Any) -> None:
    """Draws the border of a mask, bool, (H, W), also along the image edges.

    ``style`` are arguments of matplotlib's ``contour``.
    """
    height, width = mask.shape
    axes.contour(
        np.arange(width + 2) - 0.5,
        np.arange(height + 2) - 0.5,
        np.pad(mask, 1).astype(np.float32),
        [0.5],
        **style,
    )
    axes.set(xlim=(0, width), ylim=(height, 0))


def blend(
    under: np.ndarray, over: np.ndarray, alpha: float | np.ndarray
) -> np.ndarray:
    """Blends two arrays that broadcast to (H, W, 3) into a uint8 image."""
    return ((1 - alpha) * under + alpha * over).round().astype(np.uint8)


def check_image(image: np.ndarray) -> None:
    """Raises TypeError or ValueError unless the image is uint8, (H, W, 3)."""
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f'an image must have shape (H, W, 3), got {image.shape}; move '
            'the channels to the end'
        )
    if image.dtype != np.uint8:
        raise TypeError(
            f'an image must have dtype uint8, got {image.dtype}; convert it '
            'to values from 0 to 255'
        )


def check_classes(
    classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> np.ndarray:
    """Returns the colors of K classes, RGB, uint8, (K, 3).

    Raises:
        ValueError: If there are no classes, if the palette does not have one
            color per class, or if a color is out of range.
    """
    colors = np.asarray(palette)
    if len(classes) == 0 or colors.shape != (len(classes), 3):
        raise ValueError(
            f'{len(classes)} classes need a palette of shape '
            f'({len(classes)}, 3), got {colors.shape}'
        )
    if colors.min() < 0 or colors.max() > 255:
        raise ValueError(
            f'palette values must be in 0..255, got {colors.min()} to '
            f'{colors.max()}'
        )
    return colors.astype(np.uint8)


def make_palette(count: int) -> list[list[int]]:
    """Returns distinct colors, RGB in 0..255."""
    hues = (0.6 + GOLDEN_RATIO * np.arange(count)) % 1
    colors = 255 * colormaps['turbo'](0.08 + 0.84 * hues)[:, :3]
    return colors.round().astype(int).tolist()


def figure_pixels(figure: Figure) -> np.ndarray:
    """Returns a figure as an image, uint8, shape (H, W, 3), RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Writes a figure to a file and creates its folder if it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=figure.dpi, facecolor='white')
    return path
