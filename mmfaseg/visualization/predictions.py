"""Image, ground truth and prediction side by side.

Shapes:
    H, W: height and width of an image in pixels.
    K: number of classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .sheet import FAINT_INK, Sheet, check_classes, check_image, panel_size

MARGIN = 16
GAP = 6
HEAD = 34
CAPTION = 24
LEGEND_ROW = 26


@dataclass(frozen=True)
class LabelledImage:
    """One image with its two label maps.

    Attributes:
        image (np.ndarray): uint8, shape (H, W, 3), RGB.
        ground_truth (np.ndarray): Integers, shape (H, W), in 0..K-1 or
            ignored.
        prediction (np.ndarray): Integers, shape (H, W), in 0..K-1.
    """

    image: np.ndarray
    ground_truth: np.ndarray
    prediction: np.ndarray

    def check(self, num_classes: int, ignore_index: int) -> None:
        """Raises ValueError or TypeError unless all parts fit together."""
        check_image(self.image)
        labels = {
            'ground truth': self.ground_truth,
            'prediction': self.prediction,
        }
        for name, label in labels.items():
            if label.shape != self.image.shape[:2]:
                raise ValueError(
                    f'the {name} has shape {label.shape}, its image '
                    f'{self.image.shape[:2]}; bring both to one size'
                )
            if not np.issubdtype(label.dtype, np.integer):
                raise TypeError(
                    f'the {name} holds {label.dtype}; class numbers have to '
                    'be integers'
                )
            known = (label >= 0) & (label < num_classes)
            if name == 'ground truth':
                known |= label == ignore_index
            if not known.all():
                raise ValueError(
                    f'the {name} holds label {label[~known][0]}, but there '
                    f'are {num_classes} classes and the ignored label is '
                    f'{ignore_index}'
                )


def segmentation_scores(
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    ignore_index: int = 255,
) -> tuple[float, float]:
    """Returns mIoU and pixel accuracy of one image, in percent.

    The mean runs over the classes that occur in the ground truth or in the
    prediction; ignored pixels count nowhere. Both are NaN when every pixel
    is ignored.

    Args:
        ground_truth (np.ndarray): Integers, shape (H, W).
        prediction (np.ndarray): Integers, shape (H, W).
        num_classes (int): K.
        ignore_index (int): Label of the ignored pixels.

    Returns:
        tuple[float, float]: mIoU and accuracy.
    """
    valid = ground_truth != ignore_index
    if not valid.any():
        return float('nan'), float('nan')
    t = ground_truth[valid].astype(np.int64)
    p = prediction[valid].astype(np.int64)
    both = np.bincount(t[t == p], minlength=num_classes)
    union = (
        np.bincount(t, minlength=num_classes)
        + np.bincount(p, minlength=num_classes)
        - both
    )
    occurs = union > 0
    iou = both[occurs] / union[occurs]
    return 100 * float(iou.mean()), 100 * float((t == p).mean())


def colour_labels(
    label: np.ndarray, colours: np.ndarray, ignore_index: int
) -> np.ndarray:
    """Paints a label map; ignored pixels become black with grey stripes.

    Args:
        label (np.ndarray): Integers, shape (H, W).
        colours (np.ndarray): uint8, shape (K, 3).
        ignore_index (int): Label of the ignored pixels.

    Returns:
        np.ndarray: uint8, shape (H, W, 3).
    """
    ignored = label == ignore_index
    painted = colours[np.where(ignored, 0, label)]
    rows, columns = np.indices(label.shape)
    stripe = (rows + columns) % max(6, max(label.shape) // 24) < 2
    painted[ignored] = 0
    painted[ignored & stripe] = 120
    return painted


def draw_predictions(
    images: Sequence[LabelledImage],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    ignore_index: int = 255,
) -> Figure:
    """Draws image, ground truth and prediction of several images.

    From four images on, two stand in a row. The legend names the classes
    that occur.

    Args:
        images (Sequence[LabelledImage]): At least one; sizes may differ.
        classes (Sequence[str]): K class names.
        palette (Sequence[Sequence[int]]): K colours, RGB in 0..255.
        ignore_index (int): Label of pixels without ground truth.

    Returns:
        Figure: Ready for :func:`save_figure`.

    Raises:
        ValueError: If there is no image, or sizes and labels do not fit.
        TypeError: If images are not uint8 or labels are not integers.
    """
    colours = check_classes(classes, palette)
    if not images:
        raise ValueError('there is no image to draw; give at least one')
    for each in images:
        each.check(len(classes), ignore_index)

    per_row = 2 if len(images) >= 4 else 1
    sizes = [panel_size(*each.image.shape[:2]) for each in images]
    height = max(size[0] for size in sizes)
    width = max(size[1] for size in sizes)
    group = 3 * width + 2 * GAP
    handles = _legend_handles(images, classes, colours, ignore_index)
    sheet_width = 2 * MARGIN + per_row * group + (per_row - 1) * 2 * MARGIN
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), sheet_width // (longest * 8 + 60)))
    legend = MARGIN + LEGEND_ROW * -(-len(handles) // columns)
    rows = -(-len(images) // per_row)
    sheet = Sheet(sheet_width, HEAD + rows * (height + CAPTION) + legend + GAP)

    for column in range(min(per_row, len(images))):
        for i, head in enumerate(('image', 'ground truth', 'prediction')):
            x = MARGIN + column * (group + 2 * MARGIN) + i * (width + GAP)
            sheet.text(
                head, x + width / 2, HEAD - 11, 11, ha='center', weight='bold'
            )
    for n, each in enumerate(images):
        x = MARGIN + n % per_row * (group + 2 * MARGIN)
        y = HEAD + n // per_row * (height + CAPTION)
        panels = (
            each.image,
            colour_labels(each.ground_truth, colours, ignore_index),
            colours[each.prediction],
        )
        for i, panel in enumerate(panels):
            sheet.panel(panel, x + i * (width + GAP), y, width, height)
        miou, accuracy = segmentation_scores(
            each.ground_truth, each.prediction, len(classes), ignore_index
        )
        sheet.text(
            f'mIoU {miou:.1f} · accuracy {accuracy:.1f}',
            x + group - width / 2,
            y + height + 15,
            size=8.5,
            color=FAINT_INK,
            ha='center',
        )
    sheet.figure.legend(
        handles=handles,
        loc='lower center',
        ncols=columns,
        frameon=False,
        fontsize=10,
        handlelength=1.4,
        handleheight=1.1,
    )
    return sheet.figure


def _legend_handles(
    images: Sequence[LabelledImage],
    classes: Sequence[str],
    colours: np.ndarray,
    ignore_index: int,
) -> list[Patch]:
    """Makes one swatch for each class that occurs, and for ignored pixels."""
    occurring: set[int] = set()
    for each in images:
        occurring.update(np.unique(each.ground_truth).tolist())
        occurring.update(np.unique(each.prediction).tolist())
    handles = [
        Patch(
            facecolor=colours[k] / 255,
            edgecolor='#8c959f',
            linewidth=0.5,
            label=classes[k],
        )
        for k in sorted(occurring - {ignore_index})
    ]
    if ignore_index in occurring:
        handles.append(
            Patch(
                facecolor='black',
                edgecolor='#8c959f',
                hatch='////',
                label='ignored',
            )
        )
    return handles
