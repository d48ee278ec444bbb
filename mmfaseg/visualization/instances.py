"""Objects, true and predicted, side by side.

Shapes:
    H, W: height and width of a picture in pixels.
    n: number of objects.
    K: number of classes.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from .predictions import CAPTION, GAP, HEAD, MARGIN
from .sheet import FAINT_INK, INK, Sheet, check_picture, panel_size

GOLDEN_RATIO = 0.618034
MIN_IOU = 0.5
MAX_NAMES = 20  # more of them would hide the picture
UNMATCHED = '#ff2d55'
PANEL, MAX_PANEL = 384, 420  # names have to fit


@dataclass(frozen=True)
class Objects:
    """Objects of one picture.

    Attributes:
        labels (np.ndarray): integers, shape (n,), in 0..K-1.
        masks (np.ndarray): bool, shape (n, H, W).
        scores (np.ndarray | None): 0 to 1, shape (n,); None for the truth.
    """

    labels: np.ndarray
    masks: np.ndarray
    scores: np.ndarray | None = None

    def above(self, min_score: float) -> 'Objects':
        """Returns the objects with this score or more, best first."""
        if self.scores is None:
            return self
        order = np.argsort(-self.scores, kind='stable')
        order = order[self.scores[order] >= min_score]
        return Objects(
            self.labels[order], self.masks[order], self.scores[order]
        )


@dataclass(frozen=True)
class ObjectPicture:
    """One picture with its true and predicted objects.

    Attributes:
        picture (np.ndarray): uint8, shape (H, W, 3), RGB.
        truth (Objects): without scores.
        prediction (Objects): with scores.
    """

    picture: np.ndarray
    truth: Objects
    prediction: Objects

    def check(self, num_classes: int) -> None:
        """Raises ValueError or TypeError unless all parts fit together."""
        check_picture(self.picture)
        parts = {'truth': self.truth, 'prediction': self.prediction}
        for name, objects in parts.items():
            wanted = (len(objects.labels), *self.picture.shape[:2])
            if objects.masks.shape != wanted:
                raise ValueError(
                    f'the masks of the {name} have shape '
                    f'{objects.masks.shape} instead of {wanted}; bring them '
                    'to the size of the picture'
                )
            labels = objects.labels
            if len(labels) and not (
                labels.min() >= 0 and labels.max() < num_classes
            ):
                raise ValueError(
                    f'the {name} holds labels {labels.min()} to '
                    f'{labels.max()}, but there are {num_classes} classes'
                )


def match_objects(
    truth: Objects, prediction: Objects, min_iou: float = MIN_IOU
) -> np.ndarray:
    """Returns the true object that each prediction is of.

    As COCO matches: predictions in their order, each with the best true
    object of its class that is left.

    Args:
        truth (Objects): n of them.
        prediction (Objects): best first.
        min_iou (float): below it nothing matches.

    Returns:
        np.ndarray: int64, numbers of true objects, -1 for none.
    """
    found = np.full(len(prediction.labels), -1)
    if not len(truth.labels):
        return found
    ours = prediction.masks.astype(np.float32)
    theirs = truth.masks.astype(np.float32)
    both = np.tensordot(ours, theirs, ((1, 2), (1, 2)))
    union = ours.sum((1, 2))[:, None] + theirs.sum((1, 2)) - both
    iou = both / np.maximum(union, 1)
    iou[prediction.labels[:, None] != truth.labels] = 0
    for number, row in enumerate(iou):
        best = int(row.argmax())
        if row[best] >= min_iou:
            found[number] = best
            iou[:, best] = 0
    return found


def draw_objects(
    pictures: Sequence[ObjectPicture],
    classes: Sequence[str],
    min_score: float = 0.5,
) -> Figure:
    """Draws picture, true objects and predicted objects with their scores.

    A predicted object has the colour of the true one that it matches, and a
    red dashed outline where it matches none.

    Args:
        pictures (Sequence[ObjectPicture]): at least one; sizes may differ.
        classes (Sequence[str]): K class names.
        min_score (float): predictions below it are not shown.

    Returns:
        Figure: ready for :func:`save_figure`.

    Raises:
        ValueError: if there is no picture, or sizes and labels do not fit.
        TypeError: if pictures are not uint8.
    """
    if not pictures:
        raise ValueError('there is no picture to draw; give at least one')
    for each in pictures:
        each.check(len(classes))
    shapes = [each.picture.shape for each in pictures]
    sizes = [panel_size(x[0], x[1], PANEL, MAX_PANEL) for x in shapes]
    height = max(size[0] for size in sizes)
    width = max(size[1] for size in sizes)
    sheet = Sheet(
        2 * MARGIN + 3 * width + 2 * GAP,
        HEAD + len(pictures) * (height + CAPTION) + MARGIN,
    )
    for i, head in enumerate(('picture', 'truth', 'prediction')):
        x = MARGIN + i * (width + GAP) + width / 2
        sheet.text(head, x, HEAD - 11, 11, ha='center', weight='bold')
    for row, each in enumerate(pictures):
        y = HEAD + row * (height + CAPTION)
        prediction = each.prediction.above(min_score)
        matches = match_objects(each.truth, prediction)
        panels = [
            sheet.panel(
                each.picture, MARGIN + i * (width + GAP), y, width, height
            )
            for i in range(3)
        ]
        own = np.arange(len(each.truth.labels))
        _paint(panels[1], each.truth, own, classes)
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
    """Lays coloured masks, outlines and names over a picture."""
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
