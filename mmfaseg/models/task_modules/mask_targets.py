"""Training targets: a class and a mask for each target of an image.

Shapes: n targets, H x W the image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class MaskTargets:
    """Classes and masks of the n targets of one image.

    Attributes:
        labels (Tensor): int64, shape (n,), values in [0, num_classes).
        masks (Tensor): bool, shape (n, H, W).
        ignored (Tensor | None): bool, shape (H, W), True at pixels without a
            label; None if every pixel has one.
    """

    labels: Tensor
    masks: Tensor
    ignored: Tensor | None = None


def targets_from_label_map(
    label_map: Tensor, num_classes: int, ignore_index: int
) -> MaskTargets:
    """Returns one target for each class in a label map, (H, W).

    Raises:
        ValueError: if a label is neither a class nor ``ignore_index``.
    """
    labels = label_map.unique().to(torch.int64)
    has_ignored = bool((labels == ignore_index).any())
    labels = labels[labels != ignore_index]
    invalid = labels[(labels < 0) | (labels >= num_classes)].tolist()
    if invalid:
        raise ValueError(
            f'the label map contains {invalid}, but num_classes={num_classes} '
            f'and ignore_index={ignore_index}: set num_classes of the decode '
            'head to the number of classes of the dataset, and check '
            'reduce_zero_label and ignore_index'
        )
    return MaskTargets(
        labels,
        label_map == labels[:, None, None],
        label_map == ignore_index if has_ignored else None,
    )


def targets_from_instances(
    labels: Tensor,
    masks: Tensor,
    crowd_masks: Tensor,
    label_map: Tensor | None,
    num_things_classes: int,
    num_classes: int,
    ignore_index: int = 255,
) -> MaskTargets:
    """Returns one target for each instance and each stuff class.

    Instances without pixels (for example after cropping) are dropped. Pixels
    outside all instances are ignored if they belong to a crowd, are unlabeled
    or have the label of a thing class.

    Args:
        labels (Tensor): int64, shape (m,), classes of the instances, values
            in [0, num_things_classes).
        masks (Tensor): bool, shape (m, H, W), masks of the instances.
        crowd_masks (Tensor): bool, shape (c, H, W), masks of crowds
            (``iscrowd`` in COCO).
        label_map (Tensor | None): integers, shape (H, W), in which stuff has
            the labels [num_things_classes, num_classes); None for instance
            segmentation.
        num_things_classes (int): number of thing classes, which come first.
        num_classes (int): number of thing and stuff classes.
        ignore_index (int): label of pixels that belong to no class.

    Raises:
        ValueError: if a label is out of range.
    """
    is_invalid = (labels < 0) | (labels >= num_things_classes)
    invalid = labels[is_invalid].unique().tolist()
    if invalid:
        raise ValueError(
            f'instances have the labels {invalid}, but num_things_classes='
            f'{num_things_classes}: in the head and the fusion head, set it '
            'to the number of thing classes of the dataset'
        )
    is_visible = masks.flatten(1).any(1)
    labels, masks = labels[is_visible], masks[is_visible]
    covered = masks.any(0)
    unlabeled = crowd_masks.any(0)
    if label_map is not None:
        is_thing = (label_map >= 0) & (label_map < num_things_classes)
        stuff = targets_from_label_map(
            label_map.masked_fill(is_thing, ignore_index),
            num_classes,
            ignore_index,
        )
        labels = torch.cat([labels, stuff.labels])
        masks = torch.cat([masks, stuff.masks])
        if stuff.ignored is not None:
            unlabeled = unlabeled | stuff.ignored
    ignored = unlabeled & ~covered
    return MaskTargets(labels, masks, ignored if bool(ignored.any()) else None)
