"""IoU of the boundary regions of each class.

Shapes:
    H, W: height and width of the image in pixels.
    K: number of classes. In a label map, the value K marks ignored pixels.
"""

import math

import numpy as np

from mmfaseg.registry import METRICS

from .class_count_metric import ClassCountMetric, find_uniform_windows


@METRICS.register_module()
class BoundaryIoU(ClassCountMetric):
    """Boundary IoU of each class and its mean over the classes.

    Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation
    Evaluation", CVPR 2021: the IoU of the pixels of both masks that are at
    most d pixels away from the boundary of their mask. As in the reference
    implementation (github.com/bowenc0221/boundary-iou-api), these are the
    pixels that d erosions with a 3x3 kernel remove, and pixels outside of the
    image are not part of a mask.

    The counts of all images are summed per class before they are divided, as
    in mmseg's ``IoUMetric``. Results are in percent: ``mBoundaryIoU`` and, for
    example, ``BoundaryIoU.wire``.

    Args:
        dilation_ratio (float): d as a fraction of the image diagonal, in
            (0, 1]; d is rounded and at least 1. The authors use 0.02 for COCO
            and 0.005 for Cityscapes.
        ignore_index (int): ground truth label of pixels that are ignored in
            both the ground truth and the prediction.
        per_class (bool): also return the IoU of each class.
        collect_device (str): device to collect results from all processes,
            'cpu' or 'gpu'.
        prefix (str, optional): prefix of the metric names.

    Raises:
        ValueError: if ``dilation_ratio`` is out of range.
    """

    names = ('BoundaryIoU',)

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
                'dilation_ratio must be a fraction of the image diagonal in '
                f'(0, 1], got {dilation_ratio}; the paper uses 0.02'
            )
        super().__init__(ignore_index, per_class, collect_device, prefix)
        self.dilation_ratio = dilation_ratio

    def count(
        self,
        ground_truth: np.ndarray,
        prediction: np.ndarray,
        num_classes: int,
    ) -> np.ndarray:
        """Counts the pixels of the boundary regions, shape (2, 1, K).

        d erosions remove a pixel if the square of side 2d + 1 around it is
        not inside the mask. Therefore, one pass over the label map finds the
        boundary regions of all classes.
        """
        diagonal = math.hypot(*ground_truth.shape)
        window_size = 2 * max(1, round(self.dilation_ratio * diagonal)) + 1
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
        return np.stack([[intersection], [true + predicted - intersection]])
