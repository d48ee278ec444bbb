"""Prediction of label maps in bounded memory.

Shapes: K classes, H x W the padded image.
"""

from typing import Protocol

import torch
from torch import Tensor, get_num_threads

from ..layers.low_memory import chunks
from ..layers.resize_rows import resize_rows, source_range

FLIPPED_DIMS = {'horizontal': 1, 'vertical': 0}


class ScoreRows(Protocol):
    """Class scores of one padded image, computed a few rows at a time.

    Attributes:
        size (tuple[int, int]): (H, W).
        num_classes (int): number of classes, K.
        values_per_pixel (int): values that :meth:`rows` allocates per pixel.
        device (torch.device): device of the scores.
    """

    size: tuple[int, int]
    num_classes: int
    values_per_pixel: int
    device: torch.device

    def rows(self, start: int, stop: int) -> Tensor:
        """Returns the scores of rows ``start`` to ``stop - 1``, (.., W, K).

        Rows are requested from top to bottom, each at most once.
        """


def predict_label_map(scores: ScoreRows, meta: dict) -> Tensor:
    """Returns the label map of one image at its original size.

    Like mmseg, crops the padding, resizes the scores with
    ``align_corners=False``, selects the class with the highest score and
    reverts the flip, but processes only a few rows at a time.

    Args:
        scores (ScoreRows): scores of the padded image.
        meta (dict): meta information of the image. Optional keys are
            ``ori_shape``, ``img_padding_size`` or else ``padding_size``
            (left, right, top, bottom), ``flip`` and ``flip_direction``.

    Returns:
        Tensor: label map, int64, with the shape ``ori_shape``.

    Raises:
        ValueError: if the flip direction is unsupported.
    """
    padding = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    left, right, top, bottom = padding
    height, width = scores.size
    shape = height - top - bottom, width - left - right
    size: tuple[int, int] = tuple(meta.get('ori_shape', shape)[:2])
    labels = torch.empty(size, dtype=torch.int64, device=scores.device)
    # elements per row of labels: of the scores that are read, or resized
    numel = max(
        width * scores.values_per_pixel * shape[0] // size[0],
        max(width, size[1]) * scores.num_classes,
    )
    read = slice(0, 0)  # the cropped score rows in the block
    block = torch.empty(0, device=scores.device)
    for rows in chunks(size[0], numel, scores.device, get_num_threads()):
        start, stop = source_range(shape[0], size[0], rows)
        if stop > read.stop:
            block = block[start - read.start :].clone()  # frees other rows
            new_start = max(start, read.stop)
            new = scores.rows(top + new_start, top + stop)
            new = new[:, left : left + shape[1]]
            block = torch.cat([block, new]) if len(block) else new
            del new
            read = slice(start, stop)
        if shape == size:
            labels[rows] = _argmax(block)
        else:
            labels[rows] = _argmax(
                resize_rows(block, shape[0], read.start, size, rows)
            )
    return _undo_flip(labels, meta)


def _argmax(scores: Tensor) -> Tensor:
    return scores.max(-1).indices  # on CPUs faster than argmax


def _undo_flip(labels: Tensor, meta: dict) -> Tensor:
    if not meta.get('flip'):
        return labels
    direction = meta.get('flip_direction')
    if direction not in FLIPPED_DIMS:
        raise ValueError(
            f'flip_direction={direction!r} is not supported; use one of '
            f'{tuple(FLIPPED_DIMS)}'
        )
    return labels.flip(FLIPPED_DIMS[direction])
