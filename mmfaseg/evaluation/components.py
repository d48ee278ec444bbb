"""Connected components of all classes of a label map.

Shapes:
    H, W: height and width of the image in pixels.
    K: number of classes. In a label map the value K means no class.
    C: number of components plus one. Number 0 stands for the pixels without
        a class: its class is K.
"""

from typing import NamedTuple

import cv2
import numpy as np

from .class_counts import find_uniform_windows


class Components(NamedTuple):
    """The 8-connected components of each class.

    Attributes:
        numbers: int32, shape (H, W), values in [0, C), of each pixel.
        classes: int64, shape (C,), values in [0, K].
        areas: int64, shape (C,), in pixels.
        thin: bool, shape (C,), whether the largest axis-parallel square
            that fits into it is no wider than was asked for.
    """

    numbers: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    thin: np.ndarray


def find_components(
    label_map: np.ndarray, num_classes: int, thin_width: int
) -> Components:
    """Finds the 8-connected components of each class.

    A square that holds one class only is connected, so it lies in one
    component: one pass over the label map tells which components hold a
    square that is one pixel wider than ``thin_width``.

    Args:
        label_map: uint16, shape (H, W), values in [0, K].
        num_classes: K.
        thin_width: the greatest width of thin components in pixels.
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
    """Finds the true component of each found one.

    It is the one of the same class with the most pixels in common, of several
    the one whose first pixel comes first, row by row.

    Args:
        true: components of the ground truth.
        found: components of the prediction in the same image.

    Returns:
        np.ndarray: int64, shape (C of ``found``,), number of the true
        component, 0 where none has a pixel in common.
    """
    number_of_true = len(true.areas)
    firsts = _first_pixels(true.numbers, number_of_true)
    pairs = found.numbers.astype(np.int64) * number_of_true + true.numbers
    pairs, pixels = _count_values(pairs.ravel())
    ours, theirs = np.divmod(pairs, number_of_true)
    same = found.classes[ours] == true.classes[theirs]
    ours, theirs, pixels = ours[same], theirs[same], pixels[same]
    owners = np.zeros(len(found.areas), np.int64)
    # of repeated indices the last one stays: the best comes last
    order = np.lexsort((-firsts[theirs], pixels))
    owners[ours[order]] = theirs[order]
    return owners


def _first_pixels(numbers: np.ndarray, total: int) -> np.ndarray:
    """Returns the first pixel of each component, row by row, int64, (C,)."""
    backwards = numbers.ravel()[::-1]
    firsts = np.zeros(total, np.int64)
    # of repeated indices the last one stays: the first pixel
    firsts[backwards] = np.arange(len(backwards))[::-1]
    return firsts


def _count_values(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the different values and how often each occurs.

    Neighbouring pixels mostly have the same value, so runs are sorted, not
    pixels.
    """
    starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    lengths = np.diff(starts, append=len(values))
    unique, index = np.unique(values[starts], return_inverse=True)
    counts = np.bincount(index, lengths, len(unique))
    return unique, counts.astype(np.int64)
