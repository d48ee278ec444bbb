"""Base class of metrics that count intersections and unions per class.

Shapes:
    H, W: height and width of the image in pixels.
    K: number of classes. In a label map, the value K marks ignored pixels.
    N: number of IoUs per class.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from prettytable import PrettyTable
from torch import Tensor


class ClassCountMetric(BaseMetric):
    """Sums pixel counts over all images and divides them per class.

    Subclasses set :attr:`names` and implement :meth:`count`. Results are in
    percent. ``mNAME`` is the mean over the classes with a non-empty union, or
    NaN if there are none.

    Args:
        ignore_index (int): ground truth label of pixels that are ignored in
            both the ground truth and the prediction.
        per_class (bool): also return ``NAME.CLASS`` for each class.
        collect_device (str): device to collect results from all processes,
            'cpu' or 'gpu'.
        prefix (str, optional): prefix of the metric names.
    """

    names: Sequence[str]  # of the N IoUs

    def __init__(
        self,
        ignore_index: int = 255,
        per_class: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ignore_index = ignore_index
        self.per_class = per_class

    def count(
        self,
        ground_truth: np.ndarray,
        prediction: np.ndarray,
        num_classes: int,
    ) -> np.ndarray:
        """Counts the pixels of an image.

        Args:
            ground_truth (np.ndarray): uint16, shape (H, W), values in [0, K].
            prediction (np.ndarray): same dtype, shape and range.
            num_classes (int): number of classes, K.

        Returns:
            np.ndarray: int64, shape (2, N, K), intersections and unions.
        """
        raise NotImplementedError

    def process(
        self, data_batch: object, data_samples: Sequence[dict]
    ) -> None:
        """Counts the pixels of each image; see :func:`read_label_maps`."""
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            maps = read_label_maps(sample, num_classes, self.ignore_index)
            self.results.append(self.count(*maps, num_classes))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Returns the IoUs in percent and logs a per-class table."""
        classes = self.dataset_meta['classes']
        shape = (2, len(self.names), len(classes))
        intersections, unions = sum(results, np.zeros(shape, np.int64))
        with np.errstate(invalid='ignore'):
            ious = 100 * intersections / unions
        table = PrettyTable()
        table.add_column('Class', list(classes))
        metrics = {}
        for name, values in zip(self.names, ious, strict=True):
            table.add_column(name, [f'{value:.2f}' for value in values])
            known = values[~np.isnan(values)]
            metrics[f'm{name}'] = float(known.mean()) if len(known) else np.nan
        if self.per_class:
            metrics |= {
                f'{name}.{label}': float(value)
                for name, values in zip(self.names, ious, strict=True)
                for label, value in zip(classes, values, strict=True)
            }
        print_log('per class results:', 'current')
        print_log('\n' + table.get_string(), 'current')
        return metrics


def read_label_maps(
    sample: dict, num_classes: int, ignore_index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ground truth and prediction with ignored pixels set to K.

    Args:
        sample (dict): ``gt_sem_seg`` and ``pred_sem_seg`` are dicts whose
            ``data`` is a Tensor of shape (1, H, W) on any device.
        num_classes (int): number of classes, K.
        ignore_index (int): label of ignored pixels.

    Returns:
        tuple[np.ndarray, np.ndarray]: ground truth and prediction, uint16,
        shape (H, W), values in [0, K].

    Raises:
        ValueError: if there is no ground truth, the shapes differ, or a label
            is out of range.
    """
    if 'gt_sem_seg' not in sample:
        raise ValueError(
            f'the data sample has no gt_sem_seg, only {sorted(sample)}: add '
            'LoadAnnotations to the test pipeline, or remove this metric '
            'from the evaluator'
        )
    ground_truth = _to_array(sample['gt_sem_seg']['data'])
    prediction = _to_array(sample['pred_sem_seg']['data'])
    if ground_truth.shape != prediction.shape:
        raise ValueError(
            f'the ground truth has shape {ground_truth.shape} and the '
            f'prediction {prediction.shape}: in the test pipeline, put '
            'LoadAnnotations after Resize'
        )
    ignored = ground_truth == ignore_index
    return (
        _to_label_map(ground_truth, ignored, num_classes, 'ground truth'),
        _to_label_map(prediction, ignored, num_classes, 'prediction'),
    )


def find_uniform_windows(
    label_map: np.ndarray, window_size: int
) -> np.ndarray:
    """Finds windows that lie inside the image and contain a single label.

    Args:
        label_map (np.ndarray): uint16, shape (H, W).
        window_size (int): side of the square window in pixels.

    Returns:
        np.ndarray: bool, shape (H, W), one value for the window around each
        pixel. Windows of even size extend one pixel further up and left.
    """
    kernel = np.ones((window_size, window_size), np.uint8)
    shifted = label_map + 1  # 0 is outside of the image
    lowest, highest = (
        operation(
            shifted, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0
        )
        for operation in (cv2.erode, cv2.dilate)
    )
    return np.equal(lowest, highest)


def _to_array(data: Tensor) -> np.ndarray:
    """Returns labels of shape (1, H, W) as an array of shape (H, W)."""
    return data.reshape(data.shape[-2:]).cpu().numpy()


def _to_label_map(
    labels: np.ndarray, ignored: np.ndarray, num_classes: int, kind: str
) -> np.ndarray:
    """Checks the labels and sets ignored pixels to K."""
    valid = ignored | ((labels >= 0) & (labels < num_classes))
    if not valid.all():
        raise ValueError(
            f'the {kind} has label {labels[~valid][0]}, but there are '
            f'{num_classes} classes: set such pixels to ignore_index, or '
            'check reduce_zero_label and the classes of the dataset'
        )
    label_map = labels.astype(np.uint16)
    label_map[ignored] = num_classes
    return label_map
