"""The truth of one picture as a set of segments.

Shapes:
    n: number of segments.
    H, W: height and width of the picture.
"""

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


def segments_from_objects(
    labels: Tensor,
    masks: Tensor,
    crowds: Tensor,
    label_map: Tensor | None,
    num_things: int,
    num_classes: int,
    ignore_index: int = 255,
) -> Segments:
    """Returns one segment for every object and every class of stuff.

    Objects of which nothing is left in the picture are dropped. Where no
    object lies, nothing is said about crowds, about pixels without a label
    and about those whose label is a thing's.

    Args:
        labels (Tensor): int64, classes of the objects, shape (m,), in
            [0, num_things).
        masks (Tensor): bool, the objects, shape (m, H, W).
        crowds (Tensor): bool, groups of objects that nobody told apart, of
            any number, shape (c, H, W).
        label_map (Tensor | None): integers, shape (H, W), where stuff has
            the labels [num_things, num_classes); None if only objects are
            looked for.
        num_things (int): number of classes of things, which come first.
        num_classes (int): of things and stuff.
        ignore_index (int): label of pixels that belong to no class.

    Raises:
        ValueError: if a label is out of its range.
    """
    wrong = labels[(labels < 0) | (labels >= num_things)].unique().tolist()
    if wrong:
        raise ValueError(
            f'an object has the label {wrong}, but num_things_classes='
            f'{num_things}: set it, in the head and in the fusion head, to '
            'the number of classes of things of the dataset'
        )
    seen = masks.flatten(1).any(1)
    labels, masks = labels[seen], masks[seen]
    covered = masks.any(0)
    unknown = crowds.any(0)
    if label_map is not None:
        is_thing = (label_map >= 0) & (label_map < num_things)
        stuff = segments_from_label_map(
            label_map.masked_fill(is_thing, ignore_index),
            num_classes,
            ignore_index,
        )
        labels = torch.cat([labels, stuff.labels])
        masks = torch.cat([masks, stuff.masks])
        if stuff.ignored is not None:
            unknown = unknown | stuff.ignored
    ignored = unknown & ~covered
    return Segments(labels, masks, ignored if bool(ignored.any()) else None)
