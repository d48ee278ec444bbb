"""Bilinear resizing of a few rows at a time.

Shapes: N channels, h x w the source, H x W the result.
"""

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
    first, last, fraction = _neighbors(height, size[0], rows)
    low = int(first[0])
    source = maps[low - start : int(last[-1]) + 1 - start]
    # a product with this matrix is much faster than a gather
    weights = torch.zeros(len(first), len(source), dtype=fraction.dtype)
    weights.scatter_add_(1, (first - low)[:, None], 1 - fraction[:, None])
    weights.scatter_add_(1, (last - low)[:, None], fraction[:, None])
    if source.dtype == torch.float16:
        # zero weights times infinity would spread NaN over all rows
        limit = torch.finfo(source.dtype).max
        source = source.clamp(-limit, limit)
    with torch.autocast(maps.device.type, enabled=False):
        resized = weights.to(maps) @ source.flatten(1)
    resized = resized.unflatten(1, source.shape[1:])  # (r, w, N)
    planar = resized[None].permute(0, 3, 1, 2)  # channels-last strides
    planar = F.interpolate(planar, (len(first), size[1]), mode='bilinear')
    return planar[0].permute(1, 2, 0)


def source_range(height: int, target: int, rows: slice) -> tuple[int, int]:
    """Returns start and stop of the source rows for rows of the result.

    The source has ``height`` rows, h, and the result ``target`` rows, H.
    """
    first, last, _ = _neighbors(height, target, rows)
    return int(first[0]), int(last[-1]) + 1


def _neighbors(
    height: int, target: int, rows: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the source rows above and below, and the weight of the latter.

    Both are equal for rows that coincide with a source row.
    """
    index = torch.arange(rows.start, rows.stop, dtype=torch.float64)
    position = (index + 0.5) * (height / target) - 0.5
    position = position.clamp(0, height - 1)
    first, last = position.floor(), position.ceil()
    return first.long(), last.long(), position - first
