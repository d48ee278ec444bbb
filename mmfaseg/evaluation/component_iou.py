"""IoU of small, medium, large and thin parts of the classes.

Shapes:
    H, W: height and width of the image in pixels.
    K: number of classes. In a label map the value K means no class.
"""

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from mmfaseg.registry import METRICS

from .class_counts import read_label_maps, summarize_counts
from .components import Components, find_components, match_components

BINS = ('small', 'medium', 'large', 'thin')


@METRICS.register_module()
class ComponentIoU(BaseMetric):
    """IoU by the size of connected components, and of thin ones.

    The pixels of a class fall into bins by the 8-connected component of the
    class that they are in. As in COCO's evaluation a component is small,
    medium or large by its area. It is thin, whatever its area, if its width
    is small: the side of the largest axis-parallel square that fits into it.

    - A true pixel counts in the bins of its component, as intersection if its
      class was predicted, else as false negative.
    - A false positive counts in the bins of the true component of its class
      that shares most pixels with its predicted component; of several the one
      whose first pixel comes first, row by row. If none shares any, it counts
      in the bins of its own predicted component.

    The counts of all images are summed before they are divided, and the
    mean of a bin is that of the classes that have pixels in it. Results are
    in percent: ``mIoU_small``, ``mIoU_medium``, ``mIoU_large``, ``mIoU_thin``
    (nan where no class has pixels), and for example ``IoU_thin.wire``.

    Args:
        areas: the least areas of medium and of large components in pixels;
            COCO's by default.
        thin_width: the greatest width of thin components in pixels.
        ignore_index: label of the pixels that belong to no class, neither in
            the label nor in the prediction.
        per_class: whether the results hold each class too.
        collect_device: 'cpu' or 'gpu', where the processes' results meet.
        prefix: of the names of the results.

    Raises:
        ValueError: ``areas`` or ``thin_width`` is out of its range.
    """

    def __init__(
        self,
        areas: tuple[int, int] = (32**2, 96**2),
        thin_width: int = 5,
        ignore_index: int = 255,
        per_class: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        if len(areas) != 2 or not 0 < areas[0] < areas[1]:
            raise ValueError(
                'areas must be two positive numbers of pixels that rise, got '
                f'{areas}; COCO takes (1024, 9216)'
            )
        if thin_width < 1 or thin_width != int(thin_width):
            raise ValueError(
                'thin_width must be a whole number of pixels, at least 1, '
                f'got {thin_width}'
            )
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.areas = areas
        self.thin_width = int(thin_width)
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
            counts = count_components(
                *maps, num_classes, self.areas, self.thin_width
            )
            self.results.append(counts)

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Returns the IoUs in percent and logs those of the classes.

        Args:
            results: of each image, int64, shape (2, 4, K).
        """
        classes = self.dataset_meta['classes']
        names = [f'IoU_{name}' for name in BINS]
        return summarize_counts(results, names, classes, self.per_class)


def count_components(
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    areas: tuple[int, int],
    thin_width: int,
) -> np.ndarray:
    """Counts the pixels of each bin and class.

    Args:
        ground_truth: uint16, shape (H, W), values in [0, K].
        prediction: like ``ground_truth``.
        num_classes: K.
        areas: the least areas of medium and of large components in pixels.
        thin_width: the greatest width of thin components in pixels.

    Returns:
        np.ndarray: int64, shape (2, 4, K), intersections and unions in
        pixels, of the bins in the order of ``BINS``.
    """
    true = find_components(ground_truth, num_classes, thin_width)
    found = find_components(prediction, num_classes, thin_width)
    right = ground_truth == prediction
    hits = np.bincount(true.numbers[right], minlength=len(true.areas))
    extras = np.bincount(found.numbers[~right], minlength=len(found.areas))
    owners = match_components(true, found)
    bins = _sort_into_bins(true, areas)
    bins_of_extras = np.where(
        owners > 0, bins[:, owners], _sort_into_bins(found, areas)
    )
    intersection = _count_classes(true, hits * bins, num_classes)
    union = _count_classes(true, true.areas * bins, num_classes)
    union += _count_classes(found, extras * bins_of_extras, num_classes)
    return np.stack([intersection, union])


def _sort_into_bins(
    components: Components, areas: tuple[int, int]
) -> np.ndarray:
    """Tells which bins a component is in, bool, (4, components)."""
    is_small = components.areas < areas[0]
    is_large = components.areas >= areas[1]
    is_medium = ~is_small & ~is_large
    return np.stack([is_small, is_medium, is_large, components.thin])


def _count_classes(
    components: Components, pixels: np.ndarray, num_classes: int
) -> np.ndarray:
    """Sums pixels of components (4, components) to classes (4, K)."""
    counts = [
        np.bincount(components.classes, each, num_classes + 1)[:num_classes]
        for each in pixels
    ]
    return np.stack(counts).astype(np.int64)
