"""IoU of small, medium, large and thin components of the classes.

Shapes:
    H, W: height and width of the image in pixels.
    K: number of classes. In a label map, the value K marks ignored pixels.
    C: number of components plus one. Component 0 contains the ignored pixels
        and has class K.
"""

from typing import NamedTuple

import cv2
import numpy as np

from mmfaseg.registry import METRICS

from .class_count_metric import ClassCountMetric, find_uniform_windows

BINS = ('small', 'medium', 'large', 'thin')


class Components(NamedTuple):
    """The 8-connected components of each class.

    Attributes:
        numbers (np.ndarray): int32, shape (H, W), component of each pixel.
        classes (np.ndarray): int64, shape (C,), values in [0, K].
        areas (np.ndarray): int64, shape (C,), in pixels.
        thin (np.ndarray): bool, shape (C,), whether no axis-aligned square
            wider than ``thin_width`` fits into it.
    """

    numbers: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    thin: np.ndarray


@METRICS.register_module()
class ComponentIoU(ClassCountMetric):
    """IoU of small, medium, large and thin connected components.

    The pixels of each class are assigned to bins by their 8-connected
    component. As in COCO, a component is small, medium or large depending on
    its area. It is additionally thin if its width is small, which is the side
    of the largest axis-aligned square that fits into it.

    - A ground truth pixel is counted in the bins of its component: as true
      positive if its class was predicted, otherwise as false negative.
    - A false positive is counted in the bins of the ground truth component of
      its class that shares most pixels with its predicted component; ties are
      resolved by the first pixel in row-major order. If there is none, it is
      counted in the bins of its predicted component.

    The counts of all images are summed before they are divided, and each bin
    is averaged over the classes with pixels in it. Results are in percent:
    ``mIoU_small``, ``mIoU_medium``, ``mIoU_large``, ``mIoU_thin`` (NaN if no
    class has pixels) and, for example, ``IoU_thin.wire``.

    Args:
        areas (tuple[int, int]): minimum areas of medium and large components
            in pixels; those of COCO by default.
        thin_width (int): maximum width of thin components in pixels.
        ignore_index (int): ground truth label of pixels that are ignored in
            both the ground truth and the prediction.
        per_class (bool): also return the IoUs of each class.
        collect_device (str): device to collect results from all processes,
            'cpu' or 'gpu'.
        prefix (str, optional): prefix of the metric names.

    Raises:
        ValueError: if ``areas`` or ``thin_width`` is out of range.
    """

    names = tuple(f'IoU_{name}' for name in BINS)

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
                'areas must be two positive, increasing numbers of pixels, '
                f'got {areas}; COCO uses (1024, 9216)'
            )
        if thin_width < 1 or thin_width != int(thin_width):
            raise ValueError(
                'thin_width must be an integer number of pixels, at least 1, '
                f'got {thin_width}'
            )
        super().__init__(ignore_index, per_class, collect_device, prefix)
        self.areas = areas
        self.thin_width = int(thin_width)

    def count(
        self,
        ground_truth: np.ndarray,
        prediction: np.ndarray,
        num_classes: int,
    ) -> np.ndarray:
        """Counts the pixels of each bin and class, shape (2, 4, K)."""
        true = _find_components(ground_truth, num_classes, self.thin_width)
        found = _find_components(prediction, num_classes, self.thin_width)
        correct = ground_truth == prediction
        hits = np.bincount(true.numbers[correct], minlength=len(true.areas))
        extras = np.bincount(
            found.numbers[~correct], minlength=len(found.areas)
        )
        matches = _match_components(true, found)
        bins = _bins_of(true, self.areas)
        bins_of_extras = np.where(
            matches > 0, bins[:, matches], _bins_of(found, self.areas)
        )
        intersection = _sum_by_class(true, hits * bins, num_classes)
        union = _sum_by_class(true, true.areas * bins, num_classes)
        union += _sum_by_class(found, extras * bins_of_extras, num_classes)
        return np.stack([intersection, union])


def _find_components(
    label_map: np.ndarray, num_classes: int, thin_width: int
) -> Components:
    """Finds the 8-connected components of each class.

    A square with a single class is connected and thus part of one component.
    Therefore, one pass over the label map finds all components that contain a
    square of side ``thin_width + 1``.
    """
    numbers = np.zeros(label_map.shape, np.int32)
    classes = [np.array([num_classes])]
    total = 1
    present = np.bincount(label_map.ravel(), minlength=num_classes)
    for label in np.flatnonzero(present[:num_classes]):
        mask = label_map == label
        count, parts = cv2.connectedComponents(
            mask.view(np.uint8), connectivity=8
        )
        parts += total - 1
        np.copyto(numbers, parts, where=mask)
        classes.append(np.full(count - 1, label))
        total += count - 1
    thin = np.ones(total, bool)
    thin[numbers[find_uniform_windows(label_map, thin_width + 1)]] = False
    areas = np.bincount(numbers.ravel(), minlength=total)
    return Components(numbers, np.concatenate(classes), areas, thin)


def _match_components(true: Components, found: Components) -> np.ndarray:
    """Matches predicted components to ground truth components.

    Returns:
        np.ndarray: index of the ground truth component, or 0 without a match,
        int64, shape (C of ``found``,).
    """
    number_of_true = len(true.areas)
    firsts = _first_pixels(true.numbers, number_of_true)
    pairs = found.numbers.astype(np.int64) * number_of_true + true.numbers
    pairs, pixels = np.unique(pairs, return_counts=True)
    sources, targets = np.divmod(pairs, number_of_true)
    same = found.classes[sources] == true.classes[targets]
    sources, targets, pixels = sources[same], targets[same], pixels[same]
    matches = np.zeros(len(found.areas), np.int64)
    # of repeated indices, assignment keeps the last: sort the best match last
    order = np.lexsort((-firsts[targets], pixels))
    matches[sources[order]] = targets[order]
    return matches


def _first_pixels(numbers: np.ndarray, total: int) -> np.ndarray:
    """Returns the first pixel of each component, int64, shape (C,)."""
    backwards = numbers.ravel()[::-1]
    firsts = np.zeros(total, np.int64)
    # of repeated indices, assignment keeps the last, here the first pixel
    firsts[backwards] = np.arange(len(backwards))[::-1]
    return firsts


def _bins_of(components: Components, areas: tuple[int, int]) -> np.ndarray:
    """Returns the bins of each component, bool, shape (4, C)."""
    is_small = components.areas < areas[0]
    is_large = components.areas >= areas[1]
    is_medium = ~is_small & ~is_large
    return np.stack([is_small, is_medium, is_large, components.thin])


def _sum_by_class(
    components: Components, pixels: np.ndarray, num_classes: int
) -> np.ndarray:
    """Sums pixel counts of components, (4, C), by class, (4, K)."""
    counts = [
        np.bincount(components.classes, x, num_classes + 1)[:num_classes]
        for x in pixels
    ]
    return np.stack(counts).astype(np.int64)
