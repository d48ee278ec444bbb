"""From scores of the network's input to labels of the original picture."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..layers.mask_merge import label_map

FLIPPED_AXES = {'horizontal': 1, 'vertical': 0}


def label_map_of_picture(
    read_rows: Callable[[int, int], Tensor],
    size: tuple[int, int],
    meta: dict,
    channels: int,
    device: torch.device,
) -> Tensor:
    """Returns the label map of one original picture from rows of scores.

    Args:
        read_rows (Callable): as for :func:`label_map`; rows of the padded
            input.
        size (tuple[int, int]): (H, W) of the padded input.
        meta (dict): of the picture: ``ori_shape``, ``padding_size``,
            ``flip``.
        channels (int): numbers per pixel of the largest intermediate.
        device (torch.device): where the labels are to lie.

    Raises:
        ValueError: if the picture was flipped in an unknown direction.
    """
    padding = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    left, right, top, bottom = padding
    shape = size[0] - top - bottom, size[1] - left - right
    target = meta.get('ori_shape', shape)[:2]
    labels = label_map(
        lambda start, stop: read_rows(top + start, top + stop)[
            :, left : left + shape[1]
        ],
        shape,
        (target[0], target[1]),
        max(size[1], target[1]) * channels,
        device,
    )
    if meta.get('flip'):
        direction = meta.get('flip_direction')
        if direction not in FLIPPED_AXES:
            raise ValueError(
                f'flip_direction={direction!r} is none of '
                f'{tuple(FLIPPED_AXES)}: labels cannot be turned back'
            )
        labels = labels.flip(FLIPPED_AXES[direction])
    return labels
