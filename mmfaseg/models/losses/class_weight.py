"""Class weights of the cross-entropy."""

import math
from collections.abc import Sequence


def check_weight(name: str, weight: object) -> None:
    """Raises an error unless a weight is a finite, non-negative number."""
    if not isinstance(weight, (int, float)):
        raise TypeError(f'{name} must be a number, got {weight!r}')
    if not 0 <= weight < math.inf:
        raise ValueError(
            f'{name} must be finite and non-negative, got {weight}'
        )


def expand_class_weight(
    num_classes: int,
    class_weight: Sequence[float] | None,
    no_object_weight: float,
) -> list[float]:
    """Returns the weights of all classes, and last that of "no object".

    See :class:`MaskClassificationLoss` for the arguments and errors.
    """
    if class_weight is None:
        class_weight = [1.0] * num_classes
    if isinstance(class_weight, str) or not isinstance(class_weight, Sequence):
        raise TypeError(
            f'class_weight={class_weight!r} must be a sequence with one '
            'weight per class; to weight the class loss as a whole, set '
            'loss_cls_weight'
        )
    for i, weight in enumerate(class_weight):
        check_weight(f'class_weight[{i}]', weight)
    weights = [float(x) for x in class_weight]
    if len(weights) == num_classes:
        return [*weights, float(no_object_weight)]
    if len(weights) != num_classes + 1:
        raise ValueError(
            f'class_weight has {len(weights)} entries, but num_classes='
            f'{num_classes}: set one weight per class, and set '
            'no_object_weight for "no object"'
        )
    if weights[-1] != no_object_weight:
        raise ValueError(
            f'the last entry of class_weight, {weights[-1]}, and '
            f'no_object_weight={no_object_weight} are both weights of "no '
            'object": set them to the same value, or remove the last entry'
        )
    return weights
