"""Images, ground truth and predicted label maps side by side.

Shapes:
    H, W: height and width of an image in pixels.
    K: number of classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .canvas import FONT_SIZE, WIDTH, check_classes, make_panels, show_image

LEGEND_ROW = 0.22  # inches
EDGE = '#8c959f'

Labeled = tuple[np.ndarray, np.ndarray, np.ndarray]


def segmentation_scores(
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    ignore_index: int = 255,
) -> tuple[float, float]:
    """Returns mIoU and pixel accuracy of one image, in percent.

    The mean is taken over the classes that occur in the ground truth or in
    the prediction, integers, shape (H, W), without pixels of the label
    ``ignore_index``. Both scores are NaN if all pixels are ignored.
    """
    from mmseg.evaluation import IoUMetric

    maps = map(torch.from_numpy, (prediction, ground_truth))
    intersection, union, _, labeled = IoUMetric.intersect_and_union(
        *maps, num_classes, ignore_index
    )
    miou = (intersection / union).nanmean()
    return 100 * float(miou), 100 * float(intersection.sum() / labeled.sum())


def color_labels(
    labels: np.ndarray, colors: np.ndarray, ignore_index: int
) -> np.ndarray:
    """Colors a label map, (H, W), with the colors of K classes, uint8, (K, 3).

    Ignored pixels become black with gray stripes.

    Raises:
        ValueError: If there is another label that is not in 0..K-1.
    """
    ignored = labels == ignore_index
    invalid = ~ignored & ((labels < 0) | (labels >= len(colors)))
    if invalid.any():
        raise ValueError(
            f'label {labels[invalid][0]} is invalid for {len(colors)} '
            f'classes and ignore_index={ignore_index}'
        )
    colored = colors[np.where(ignored, 0, labels)]
    stripes = np.indices(labels.shape).sum(0) % 8 < 2
    colored[ignored] = 0
    colored[ignored & stripes] = 120
    return colored


def draw_predictions(
    images: Sequence[Labeled],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    ignore_index: int = 255,
) -> Figure:
    """Draws image, ground truth and prediction of several images.

    A row shows two images if there are at least four. The legend lists the
    classes that occur.

    Args:
        images (Sequence[tuple]): Images, uint8, shape (H, W, 3), RGB, with
            their ground truth and predicted label maps, integers, shape
            (H, W); at least one, sizes may differ.
        classes (Sequence[str]): K class names.
        palette (Sequence[Sequence[int]]): K colors, RGB in 0..255.
        ignore_index (int): Label of pixels without ground truth.

    Returns:
        Figure: Ready for :func:`save_figure`.

    Raises:
        ValueError: If there is no image, or if a label is invalid.
    """
    colors = check_classes(classes, palette)
    if not images:
        raise ValueError('there is no image to draw; pass at least one')
    colored = [
        (image, *(color_labels(x, colors, ignore_index) for x in maps))
        for image, *maps in images
    ]
    per_row = 2 if len(images) >= 4 else 1
    handles = _legend_handles(images, classes, colors, ignore_index)
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(WIDTH / (0.08 * longest + 0.45))))
    figure, panels = make_panels(
        -(-len(images) // per_row),
        3 * per_row,
        max(image.shape[0] / image.shape[1] for image, *_ in images),
        head=0.4,
        footer=0.3 + LEGEND_ROW * -(-len(handles) // columns),
    )
    titles = ('image', 'ground truth', 'prediction')
    for axes, shown, (_, ground_truth, prediction) in zip(
        panels.reshape(-1, 3), colored, images, strict=False
    ):
        for panel, image, title in zip(axes, shown, titles, strict=True):
            show_image(panel, image, title)
        miou, accuracy = segmentation_scores(
            ground_truth, prediction, len(classes), ignore_index
        )
        axes[2].text(
            1,
            -0.03,
            f'mIoU {miou:.1f} · accuracy {accuracy:.1f}',
            transform=axes[2].transAxes,
            fontsize=FONT_SIZE - 1,
            ha='right',
            va='top',
        )
    for axes in panels.flat[3 * len(images) :]:
        axes.remove()
    figure.legend(
        handles=handles,
        loc='lower center',
        ncols=columns,
        frameon=False,
        fontsize=FONT_SIZE,
        handlelength=1.4,
        handleheight=1.1,
    )
    return figure


def _legend_handles(
    images: Sequence[Labeled],
    classes: Sequence[str],
    colors: np.ndarray,
    ignore_index: int,
) -> list[Patch]:
    """Makes a patch for each class that occurs, and for ignored pixels."""
    occurring = {
        int(x) for _, *maps in images for x in np.unique(np.stack(maps))
    }
    handles = [
        Patch(facecolor=colors[k] / 255, edgecolor=EDGE, label=classes[k])
        for k in sorted(occurring - {ignore_index})
    ]
    if ignore_index in occurring:
        stripes = Patch(facecolor='black', edgecolor=EDGE, label='ignored')
        stripes.set_hatch('////')
        handles.append(stripes)
    return handles
