"""What metrics share that count pixels per class.

A data sample becomes two label maps; each image gives pixel counts, and
the counts of all images give the IoUs and their table.

Shapes:
    H, W: height and width of the image in pixels.
    K: number of classes. In a label map the value K means no class.
    N: number of IoUs per class.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.logging import print_log
from prettytable import PrettyTable
from torch import Tensor


def read_label_maps(
    sample: dict, num_classes: int, ignore_index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Reads ground truth and prediction; ignored pixels get no class in both.

    Args:
        sample: has ``gt_sem_seg`` and ``pred_sem_seg``, each a dict whose
            ``data`` is a Tensor of shape (1, H, W) on any device.
        num_classes: K.
        ignore_index: label of the pixels that do not count.

    Returns:
        tuple[np.ndarray, np.ndarray]: ground truth and prediction, uint16,
        shape (H, W), values in [0, K].

    Raises:
        ValueError: there is no ground truth, the shapes differ, or a label is
            out of its range.
    """
    if 'gt_sem_seg' not in sample:
        raise ValueError(
            'the data sample has no gt_sem_seg, only '
            f'{sorted(sample)}: load the labels in the pipeline, or leave '
            'this metric out of the evaluator'
        )
    ground_truth = _to_array(sample['gt_sem_seg']['data'])
    prediction = _to_array(sample['pred_sem_seg']['data'])
    if ground_truth.shape != prediction.shape:
        raise ValueError(
            f'the label has shape {ground_truth.shape} and the prediction '
            f'{prediction.shape}: resize the prediction to the label, and do '
            'not resize the label of a test image'
        )
    ignored = ground_truth == ignore_index
    return (
        _to_label_map(ground_truth, ignored, num_classes, 'label'),
        _to_label_map(prediction, ignored, num_classes, 'prediction'),
    )


def find_uniform_windows(
    label_map: np.ndarray, window_size: int
) -> np.ndarray:
    """Tells where a window lies in the image and holds one label only.

    Args:
        label_map: uint16, shape (H, W).
        window_size: side of the square window in pixels.

    Returns:
        np.ndarray: bool, shape (H, W), of the window around each pixel; an
        even one reaches half its side up and left, one pixel less down and
        right.
    """
    kernel = np.ones((window_size, window_size), np.uint8)
    shifted = label_map + 1  # 0 is outside of the image
    lowest, highest = (
        change(shifted, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        for change in (cv2.erode, cv2.dilate)
    )
    return np.equal(lowest, highest)


def summarize_counts(
    counts: Sequence[np.ndarray],
    names: Sequence[str],
    classes: Sequence[str],
    per_class: bool,
) -> dict[str, float]:
    """Sums the images, divides, and logs a table of the classes.

    Args:
        counts: of each image, int64, shape (2, N, K): intersections and
            unions in pixels.
        names: of the N IoUs.
        classes: names of the K classes.
        per_class: whether to return the IoUs of the classes too.

    Returns:
        dict[str, float]: in percent, under ``m`` and the name, the mean of
        the classes whose union is not empty, nan if there is none; under
        ``name.class`` that of each class, nan if its union is empty.
    """
    totals = np.zeros((2, len(names), len(classes)), np.int64)
    for each in counts:
        totals += each
    with np.errstate(invalid='ignore'):
        ious = 100 * totals[0] / totals[1]
    table = PrettyTable()
    table.add_column('Class', list(classes))
    results = {}
    for name, values in zip(names, ious, strict=True):
        table.add_column(name, [f'{value:.2f}' for value in values])
        counted = values[~np.isnan(values)]
        mean = counted.mean() if len(counted) else np.nan
        results[f'm{name}'] = float(mean)
    print_log('per class results:', 'current')
    print_log('\n' + table.get_string(), 'current')
    if per_class:
        for name, values in zip(names, ious, strict=True):
            for label, value in zip(classes, values, strict=True):
                results[f'{name}.{label}'] = float(value)
    return results


def _to_array(data: Tensor) -> np.ndarray:
    """Returns labels of shape (1, H, W) as an array of shape (H, W)."""
    return data.reshape(data.shape[-2:]).cpu().numpy()


def _to_label_map(
    labels: np.ndarray, ignored: np.ndarray, num_classes: int, kind: str
) -> np.ndarray:
    """Checks labels and gives the ignored ones the value K."""
    counted = labels[~ignored]
    if counted.size and not 0 <= counted.min() <= counted.max() < num_classes:
        outside = (counted < 0) | (counted >= num_classes)
        raise ValueError(
            f'the {kind} has the value {counted[outside][0]}, but there are '
            f'{num_classes} classes: give such pixels the ignore_index, or '
            'check reduce_zero_label and the classes of the data set'
        )
    label_map = labels.astype(np.uint16)
    label_map[ignored] = num_classes
    return label_map
