"""The truth of one picture as a set of segments."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Segments:
    """Classes and masks of one picture, n segments in all.

    Attributes:
        labels (Tensor): int64, shape (n,), values in [0, num_classes).
        masks (Tensor): bool, shape (n, H, W).
        ignored (Tensor | None): bool, shape (H, W), true where the label map
            says nothing; None if it speaks everywhere.
    """

    labels: Tensor
    masks: Tensor
    ignored: Tensor | None = None


def segments_from_label_map(
    label_map: Tensor, num_classes: int, ignore_index: int
) -> Segments:
    """Returns one segment for every class of a label map.

    Args:
        label_map (Tensor): integers, shape (H, W).
        num_classes (int): number of classes.
        ignore_index (int): label of pixels that belong to no class.

    Raises:
        ValueError: if a label is neither a class nor ``ignore_index``.
    """
    labels = label_map.unique().to(torch.int64)
    has_ignored = bool((labels == ignore_index).any())
    labels = labels[labels != ignore_index]
    wrong = labels[(labels < 0) | (labels >= num_classes)].tolist()
    if wrong:
        raise ValueError(
            f'the label map holds {wrong}, but num_classes={num_classes} and '
            f'ignore_index={ignore_index}: set num_classes of the decode head '
            'to the number of classes of the dataset, and check '
            'reduce_zero_label and the void label'
        )
    return Segments(
        labels,
        label_map == labels[:, None, None],
        label_map == ignore_index if has_ignored else None,
    )
