"""Objects, true and predicted, side by side.

Shapes:
    H, W: height and width of an image in pixels.
    n: number of objects.
    K: number of classes.
"""

import colorsys
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from .objects import ObjectImage, Objects, match_objects
from .predictions import CAPTION, GAP, HEAD, MARGIN
from .sheet import FAINT_INK, GOLDEN_RATIO, INK, Sheet, panel_size

MAX_NAMES = 20  # more of them would hide the image
UNMATCHED = '#ff2d55'
PANEL, MAX_PANEL = 384, 420  # names have to fit


def draw_objects(
    images: Sequence[ObjectImage],
    classes: Sequence[str],
    min_score: float = 0.5,
) -> Figure:
    """Draws image, true objects and predicted objects with their scores.

    A predicted object has the colour of the true one that it matches, and a
    red dashed outline where it matches none.

    Args:
        images (Sequence[ObjectImage]): at least one; sizes may differ.
        classes (Sequence[str]): K class names.
        min_score (float): predictions below it are not shown.

    Returns:
        Figure: ready for :func:`save_figure`.

    Raises:
        ValueError: if there is no image, or sizes and labels do not fit.
        TypeError: if images are not uint8.
    """
    if not images:
        raise ValueError('there is no image to draw; give at least one')
    for each in images:
        each.check(len(classes))
    shapes = [each.image.shape for each in images]
    sizes = [panel_size(x[0], x[1], PANEL, MAX_PANEL) for x in shapes]
    height = max(size[0] for size in sizes)
    width = max(size[1] for size in sizes)
    sheet = Sheet(
        2 * MARGIN + 3 * width + 2 * GAP,
        HEAD + len(images) * (height + CAPTION) + MARGIN,
    )
    for i, head in enumerate(('image', 'ground truth', 'prediction')):
        x = MARGIN + i * (width + GAP) + width / 2
        sheet.text(head, x, HEAD - 11, 11, ha='center', weight='bold')
    for row, each in enumerate(images):
        y = HEAD + row * (height + CAPTION)
        prediction = each.prediction.above(min_score)
        matches = match_objects(each.ground_truth, prediction)
        panels = [
            sheet.panel(
                each.image, MARGIN + i * (width + GAP), y, width, height
            )
            for i in range(3)
        ]
        own = np.arange(len(each.ground_truth.labels))
        _paint(panels[1], each.ground_truth, own, classes)
        _paint(panels[2], prediction, matches, classes)
        sheet.text(
            f'{(matches >= 0).sum()} of {len(own)} found, '
            f'{(matches < 0).sum()} false',
            MARGIN + 2.5 * width + 2 * GAP,
            y + height + 15,
            size=8.5,
            color=FAINT_INK,
            ha='center',
        )
    return sheet.figure


def _paint(
    axes: Axes, objects: Objects, numbers: np.ndarray, classes: Sequence[str]
) -> None:
    """Lays coloured masks, outlines and names over an image."""
    count, height, width = objects.masks.shape
    layer = np.zeros((height, width, 4))
    outlines = []
    # large ones first, so that small ones stay on top
    for n in np.argsort(-objects.masks.sum((1, 2))):
        mask = objects.masks[n]
        if not mask.any():
            continue
        known = numbers[n] >= 0
        colour = _colour(int(numbers[n])) if known else to_rgb(UNMATCHED)
        layer[mask] = (*colour, 0.45 if known else 0.25)
        outlines.append((mask, colour, known))
    axes.imshow(layer, extent=(0, width, height, 0), interpolation='nearest')
    for mask, colour, known in outlines:
        axes.contour(
            np.arange(width + 2) - 0.5,
            np.arange(height + 2) - 0.5,
            np.pad(mask, 1).astype(float),
            levels=[0.5],
            colors=[colour],
            linewidths=1.4,
            linestyles='solid' if known else 'dashed',
        )
    if count <= MAX_NAMES:
        _write_names(axes, objects, classes)
    # contours may have moved them
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _write_names(axes: Axes, objects: Objects, classes: Sequence[str]) -> None:
    """Writes class and score into the middle of each object."""
    for n, (label, mask) in enumerate(
        zip(objects.labels, objects.masks, strict=True)
    ):
        ys, xs = np.nonzero(mask)
        if not len(ys):
            continue
        name = classes[label]
        if objects.scores is not None:
            name += f' {objects.scores[n]:.2f}'
        # the pixel next to the centre that belongs to the object
        nearest = np.hypot(ys - ys.mean(), xs - xs.mean()).argmin()
        axes.text(
            xs[nearest] + 0.5,
            ys[nearest] + 0.5,
            name,
            fontsize=7.5,
            color='white',
            ha='center',
            va='center',
            clip_on=True,
            path_effects=[withStroke(linewidth=2, foreground=INK)],
        )


def _colour(number: int) -> tuple[float, float, float]:
    """Returns a colour that its neighbours in number do not have."""
    hue = (0.55 + number * GOLDEN_RATIO) % 1
    return colorsys.hsv_to_rgb(hue, 0.75, 1.0)
