"""The metrics in plain loops, word by word as they are defined."""

from fractions import Fraction

import numpy as np

Pixels = set[tuple[int, int]]
BINS = ('small', 'medium', 'large', 'thin')


def masks(
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    label: int,
    ignore_index: int,
) -> tuple[Pixels, Pixels]:
    """Pixels of a class in ground truth and prediction, without ignored."""
    places = [
        place
        for place in np.ndindex(*ground_truth.shape)
        if ground_truth[place] != ignore_index
    ]
    return (
        {place for place in places if ground_truth[place] == label},
        {place for place in places if prediction[place] == label},
    )


def neighbors(place: tuple[int, int]) -> Pixels:
    """The pixel and the eight around it."""
    y, x = place
    return {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}


def boundary_region(mask: Pixels, distance: int) -> Pixels:
    """What so many steps of erosion take away."""
    left = mask
    for _ in range(distance):
        left = {place for place in left if neighbors(place) <= left}
    return mask - left


def count_boundaries(
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    distance: int,
    ignore_index: int = 255,
) -> np.ndarray:
    """Intersections and unions of the boundary regions, (2, K)."""
    counts = np.zeros((2, num_classes), int)
    for label in range(num_classes):
        a, b = (
            boundary_region(mask, distance)
            for mask in masks(ground_truth, prediction, label, ignore_index)
        )
        counts[:, label] = len(a & b), len(a | b)
    return counts


def components(mask: Pixels) -> list[Pixels]:
    """8-connected components in the order of their first pixels."""
    left, found = set(mask), []
    while left:
        edge = {min(left)}
        component: Pixels = set()
        while edge:
            component |= edge
            left -= edge
            edge = left & set().union(*map(neighbors, edge))
        found.append(component)
    return found


def width(component: Pixels) -> int:
    """The side of the largest square that fits into it."""
    largest = 0
    for y, x in component:
        side = 1
        while all(
            (y + dy, x + dx) in component
            for dy in range(side)
            for dx in range(side)
        ):
            largest = max(largest, side)
            side += 1
    return largest


def bins(
    component: Pixels, areas: tuple[int, int], thin_width: int
) -> list[str]:
    """The bins of a component."""
    area = len(component)
    names = ['thin'] if width(component) <= thin_width else []
    if area < areas[0]:
        return [*names, 'small']
    return [*names, 'medium' if area < areas[1] else 'large']


def count_components(
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    areas: tuple[int, int],
    thin_width: int,
    ignore_index: int = 255,
) -> np.ndarray:
    """Intersections and unions of bins and classes, (2, 4, K)."""
    counts = np.zeros((2, len(BINS), num_classes), int)
    for label in range(num_classes):
        true_mask, found_mask = masks(
            ground_truth, prediction, label, ignore_index
        )
        true = components(true_mask)
        for component in true:
            for name in bins(component, areas, thin_width):
                cell = BINS.index(name), label
                counts[(0, *cell)] += len(component & found_mask)
                counts[(1, *cell)] += len(component)
        for component in components(found_mask):
            # max takes the first of equal ones
            owner = max(true, key=lambda x: len(x & component), default=set())
            owner = owner if owner & component else component
            for name in bins(owner, areas, thin_width):
                extra = len(component - true_mask)
                counts[1, BINS.index(name), label] += extra
    return counts


def mean_percent(counts: np.ndarray) -> float:
    """The mean over the classes with a union of counts (2, K)."""
    ious = [Fraction(int(i), int(u)) for i, u in counts.T if u]
    return float(100 * sum(ious) / len(ious)) if ious else float('nan')
