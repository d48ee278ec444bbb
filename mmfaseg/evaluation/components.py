"""Connected components of all classes of a label map.

Shapes:
    H, W: height and width of the image in pixels.
    K: number of classes. In a label map, the value K marks ignored pixels.
    C: number of components plus one. Component 0 contains the ignored pixels
        and has class K.
"""

from typing import NamedTuple

import cv2
import numpy as np

from .class_count_metric import find_uniform_windows


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


def find_components(
    label_map: np.ndarray, num_classes: int, thin_width: int
) -> Components:
    """Finds the 8-connected components of each class.

    A square with a single class is connected and thus part of one component.
    Therefore, one pass over the label map finds all components that contain a
    square of side ``thin_width + 1``.

    Args:
        label_map (np.ndarray): uint16, shape (H, W), values in [0, K].
        num_classes (int): number of classes, K.
        thin_width (int): maximum width of thin components in pixels.
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


def match_components(true: Components, found: Components) -> np.ndarray:
    """Matches predicted components to ground truth components.

    The match is the component of the same class that shares most pixels, ties
    being resolved by the first pixel in row-major order.

    Args:
        true (Components): components of the ground truth.
        found (Components): components of the prediction.

    Returns:
        np.ndarray: index of the ground truth component, or 0 without a match,
        int64, shape (C of ``found``,).
    """
    number_of_true = len(true.areas)
    firsts = _first_pixels(true.numbers, number_of_true)
    pairs = found.numbers.astype(np.int64) * number_of_true + true.numbers
    pairs, pixels = _count_values(pairs.ravel())
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


def _count_values(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the unique values and their counts.

    Sorting runs of equal values is faster than sorting pixels.
    """
    starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    lengths = np.diff(starts, append=len(values))
    unique, index = np.unique(values[starts], return_inverse=True)
    counts = np.bincount(index, lengths, len(unique))
    return unique, counts.astype(np.int64)
