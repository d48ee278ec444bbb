"""Bilinear resizing of a few rows at a time.

Shapes: N channels, h x w the source, H x W the result.
"""

import math

import numpy as np
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
    # NumPy, as operations on small tensors take several times as long
    index = np.arange(rows.start, rows.stop)
    position = ((index + 0.5) * (height / size[0]) - 0.5).clip(0, height - 1)
    distance = abs(position[:, None] - np.arange(low, stop))
    # a product with this matrix is much faster than a gather
    weights = torch.from_numpy((1 - distance).clip(0))
    if source.dtype == torch.float16:
        # zero weights times infinity would spread NaN over all rows
        limit = torch.finfo(source.dtype).max
        source = source.clamp(-limit, limit)
    with torch.autocast(maps.device.type, enabled=False):
        resized = weights.to(maps) @ source.flatten(1)
    resized = resized.view(len(index), *source.shape[1:])  # (r, w, N)
    is_cpu = maps.device.type == 'cpu'  # where threads split only the batch
    planar = resized[:, None] if is_cpu else resized[None]
    planar = planar.permute(0, 3, 1, 2)  # channels-last strides
    planar = F.interpolate(planar, (planar.size(2), size[1]), mode='bilinear')
    return planar.permute(0, 2, 3, 1).flatten(0, 1)


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
