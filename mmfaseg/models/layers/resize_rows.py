"""Bilinear resizing of a few rows at a time.

Shapes: N channels, h x w the source, H x W the result.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_rows(
    maps: Tensor, height: int, start: int, size: tuple[int, int], rows: slice
) -> Tensor:
    """Returns rows of a bilinear resize with ``align_corners=False``.

    Args:
        maps (Tensor): source rows from ``start`` on, including those of
            :func:`source_range`, shape (any, w, N).
        height (int): height of the source, h.
        start (int): first row of ``maps``.
        size (tuple[int, int]): (H, W).
        rows (slice): the r rows of the result to compute.

    Returns:
        Tensor: shape (r, W, N).
    """
    low, stop = source_range(height, size[0], rows)
    source = maps[low - start : stop - start]
    index = torch.arange(rows.start, rows.stop, dtype=torch.float64)
    position = ((index + 0.5) * (height / size[0]) - 0.5).clamp(0, height - 1)
    distance = (position[:, None] - torch.arange(low, stop)).abs()
    # a product with this matrix is much faster than a gather
    weights = (1 - distance).clamp(min=0)
    if source.dtype == torch.float16:
        # zero weights times infinity would spread NaN over all rows
        limit = torch.finfo(source.dtype).max
        source = source.clamp(-limit, limit)
    with torch.autocast(maps.device.type, enabled=False):
        resized = weights.to(maps) @ source.flatten(1)
    resized = resized.unflatten(1, source.shape[1:])  # (r, w, N)
    # rows as the batch: on CPUs only the batch is split between threads
    planar = resized[:, None].permute(0, 3, 1, 2)  # channels-last strides
    planar = F.interpolate(planar, (1, size[1]), mode='bilinear')
    return planar[:, :, 0].permute(0, 2, 1)


def source_range(height: int, target: int, rows: slice) -> tuple[int, int]:
    """Returns start and stop of the source rows for rows of the result.

    The source has ``height`` rows, h, and the result ``target`` rows, H.
    """
    return (
        math.floor(_position(height, target, rows.start)),
        math.ceil(_position(height, target, rows.stop - 1)) + 1,
    )


def _position(height: int, target: int, row: int) -> float:
    """Returns the position in the source of a row of the result."""
    return min(max((row + 0.5) * (height / target) - 0.5, 0), height - 1)
