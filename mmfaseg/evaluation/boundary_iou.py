"""IoU of the regions along the boundaries of the classes.

Shapes:
    H, W: height and width of the image in pixels.
    K: number of classes. In a label map the value K means no class.
"""

import math
from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from mmfaseg.registry import METRICS

from .class_counts import (
    find_uniform_windows,
    read_label_maps,
    summarize_counts,
)


@METRICS.register_module()
class BoundaryIoU(BaseMetric):
    """Boundary IoU of each class and its mean over the classes.

    Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation
    Evaluation", CVPR 2021: the IoU of those pixels of the two masks that are
    at most d pixels away from the boundary of their mask. As in the authors'
    program (github.com/bowenc0221/boundary-iou-api) they are what d steps of
    erosion by a square of 3 x 3 take away, and what lies outside of the
    image is not part of the mask.

    The counts of all images are summed per class before they are divided,
    like those of mmseg's ``IoUMetric``. Results are in percent:
    ``mBoundaryIoU``, and for example ``BoundaryIoU.wire``.

    Args:
        dilation_ratio: d as a share of the image's diagonal, in (0, 1]; d
            is rounded and at least 1. The authors take 0.02 for COCO and
            0.005 for Cityscapes.
        ignore_index: label of the pixels that belong to no class, neither in
            the label nor in the prediction.
        per_class: whether the results hold each class too.
        collect_device: 'cpu' or 'gpu', where the processes' results meet.
        prefix: of the names of the results.

    Raises:
        ValueError: ``dilation_ratio`` is out of its range.
    """

    def __init__(
        self,
        dilation_ratio: float = 0.02,
        ignore_index: int = 255,
        per_class: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        if not 0 < dilation_ratio <= 1:
            raise ValueError(
                'dilation_ratio must be a share of the diagonal in (0, 1], '
                f'got {dilation_ratio}; the paper takes 0.02'
            )
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.dilation_ratio = dilation_ratio
        self.ignore_index = ignore_index
        self.per_class = per_class

    def process(
        self, data_batch: object, data_samples: Sequence[dict]
    ) -> None:
        """Counts the pixels of each image.

        Args:
            data_batch: not used.
            data_samples: with ``gt_sem_seg`` and ``pred_sem_seg``.

        Raises:
            ValueError: label and prediction do not fit, or there is no
                label.
        """
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            maps = read_label_maps(sample, num_classes, self.ignore_index)
            counts = count_boundaries(*maps, num_classes, self.dilation_ratio)
            self.results.append(counts[:, None])

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Returns the IoUs in percent and logs those of the classes.

        Args:
            results: of each image, int64, shape (2, 1, K).
        """
        classes = self.dataset_meta['classes']
        names = ('BoundaryIoU',)
        return summarize_counts(results, names, classes, self.per_class)


def count_boundaries(
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    dilation_ratio: float,
) -> np.ndarray:
    """Counts the pixels that the boundary regions share and cover.

    A mask loses a pixel to d steps of erosion exactly if the square of side
    2d + 1 around it is not within the mask. So one pass over the label map
    finds the boundary regions of all classes.

    Args:
        ground_truth: uint16, shape (H, W), values in [0, K].
        prediction: like ``ground_truth``.
        num_classes: K.
        dilation_ratio: d as a share of the image's diagonal.

    Returns:
        np.ndarray: int64, shape (2, K), intersections and unions in pixels.
    """
    height, width = ground_truth.shape
    diagonal = math.sqrt(height**2 + width**2)
    window_size = 2 * max(1, round(dilation_ratio * diagonal)) + 1
    in_ground_truth = ~find_uniform_windows(ground_truth, window_size)
    in_prediction = ~find_uniform_windows(prediction, window_size)
    shared = in_ground_truth & in_prediction & (ground_truth == prediction)
    regions = (
        ground_truth[shared],
        ground_truth[in_ground_truth],
        prediction[in_prediction],
    )
    intersection, true, predicted = (
        np.bincount(labels, minlength=num_classes + 1)[:num_classes]
        for labels in regions
    )
    return np.stack([intersection, true + predicted - intersection])
