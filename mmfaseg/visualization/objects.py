"""Ground truth and predicted objects side by side.

Shapes:
    H, W: height and width of an image in pixels.
    n: number of objects.
    K: number of classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from .canvas import (
    FONT_SIZE,
    draw_outline,
    make_palette,
    make_panels,
    show_image,
)

MAX_NAMES = 20  # more names would hide the image
UNMATCHED = (1.0, 0.18, 0.33)  # red


@dataclass(frozen=True)
class Objects:
    """Objects or segments of one image.

    Attributes:
        labels (np.ndarray): Integers, shape (n,), in 0..K-1.
        masks (np.ndarray): bool, shape (n, H, W).
        scores (np.ndarray | None): 0 to 1, shape (n,); None for ground truth.
    """

    labels: np.ndarray
    masks: np.ndarray
    scores: np.ndarray | None = None

    def above(self, min_score: float) -> 'Objects':
        """Returns the objects with at least this score, best first."""
        if self.scores is None:
            return self
        order = np.argsort(-self.scores, kind='stable')
        order = order[self.scores[order] >= min_score]
        return Objects(
            self.labels[order], self.masks[order], self.scores[order]
        )


def mask_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the IoU of each pair of masks, float32, (n, m).

    The masks are bool, (n, H, W) and (m, H, W). The IoU of two empty masks is
    0.
    """
    a, b = first.astype(np.float32), second.astype(np.float32)
    both = np.tensordot(a, b, ((1, 2), (1, 2)))
    union = a.sum((1, 2))[:, None] + b.sum((1, 2)) - both
    return both / np.maximum(union, 1)


def match_objects(
    ground_truth: Objects, prediction: Objects, min_iou: float = 0.5
) -> np.ndarray:
    """Matches predictions to ground truth objects.

    As in COCO's evaluation, predictions are matched in order, best first, each
    to the unmatched object of its class with the highest IoU.

    Returns:
        np.ndarray: int64, indices into ``ground_truth``, -1 for no match.
    """
    found = np.full(len(prediction.labels), -1)
    if not len(ground_truth.labels):
        return found
    ious = mask_ious(prediction.masks, ground_truth.masks)
    ious[prediction.labels[:, None] != ground_truth.labels] = 0
    for n, row in enumerate(ious):
        best = int(row.argmax())
        if row[best] >= min_iou:
            found[n] = best
            ious[:, best] = 0
    return found


def draw_objects(
    images: Sequence[tuple[np.ndarray, Objects, Objects]],
    classes: Sequence[str],
    min_score: float = 0.5,
) -> Figure:
    """Draws images, ground truth objects and predictions with their scores.

    A prediction has the color of the ground truth object that it matches,
    and a red dashed outline if it matches none.

    Args:
        images (Sequence[tuple]): Images, uint8, shape (H, W, 3), RGB, with
            their ground truth and predicted objects; at least one, sizes may
            differ.
        classes (Sequence[str]): K class names.
        min_score (float): Predictions with a lower score are not drawn.

    Returns:
        Figure: Ready for :func:`save_figure`.

    Raises:
        ValueError: If there is no image.
    """
    if not images:
        raise ValueError('there is no image to draw; pass at least one')
    aspect = max(image.shape[0] / image.shape[1] for image, *_ in images)
    figure, panels = make_panels(len(images), 3, aspect)
    for row, (image, ground_truth, found) in zip(panels, images, strict=True):
        prediction = found.above(min_score)
        matches = match_objects(ground_truth, prediction)
        indices = np.arange(len(ground_truth.labels))
        caption = (
            f'prediction: {(matches >= 0).sum()} of {len(indices)} found, '
            f'{(matches < 0).sum()} false'
        )
        titles = ('image', 'ground truth', caption)
        for axes, title in zip(row, titles, strict=True):
            show_image(axes, image, title)
        _draw(row[1], ground_truth, indices, classes)
        _draw(row[2], prediction, matches, classes)
    return figure


def _draw(
    axes: Axes, objects: Objects, matches: np.ndarray, classes: Sequence[str]
) -> None:
    """Draws masks, outlines and names over an image."""
    height, width = objects.masks.shape[1:]
    overlay = np.zeros((height, width, 4))
    colors = np.array(make_palette(max(matches, default=0) + 1)) / 255
    # large objects first, so that small ones stay on top
    areas = objects.masks.sum((1, 2))
    order = [n for n in np.argsort(-areas) if areas[n]]
    for n in order:
        matched = matches[n] >= 0
        color = colors[matches[n]] if matched else UNMATCHED
        overlay[objects.masks[n]] = (*color, 0.45 if matched else 0.25)
        draw_outline(
            axes,
            objects.masks[n],
            colors=[tuple(color)],
            linewidths=1.2,
            linestyles='solid' if matched else 'dashed',
        )
    axes.imshow(overlay, extent=(0, width, height, 0), interpolation='nearest')
    for n in order if len(order) <= MAX_NAMES else ():
        ys, xs = np.nonzero(objects.masks[n])
        name = classes[objects.labels[n]]
        if objects.scores is not None:
            name += f' {objects.scores[n]:.2f}'
        # the pixel of the object closest to its center
        nearest = np.hypot(ys - ys.mean(), xs - xs.mean()).argmin()
        axes.text(
            xs[nearest] + 0.5,
            ys[nearest] + 0.5,
            name,
            fontsize=FONT_SIZE - 1,
            color='white',
            ha='center',
            va='center',
            clip_on=True,
            path_effects=[withStroke(linewidth=2, foreground='black')],
        )
