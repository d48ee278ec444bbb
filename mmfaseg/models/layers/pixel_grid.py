"""Coordinates of the tokens of a feature pyramid.

Shapes:
    S: number of tokens, the sum of H_l * W_l over the levels.
    n_l: number of levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PixelGrid:
    """Coordinates of a pyramid; 0 to 1 over the image on both axes.

    Attributes:
        shapes (tuple[tuple[int, int], ...]): (H_l, W_l) of each level.
        centres (Tensor): (x, y) of the centre of every pixel, shape (S, 2).
        pixel_size (Tensor): (1 / W_l, 1 / H_l), shape (n_l, 2).
    """

    shapes: tuple[tuple[int, int], ...]
    centres: Tensor
    pixel_size: Tensor


@torch.no_grad()
def pixel_grid(shapes: Sequence[tuple[int, int]], like: Tensor) -> PixelGrid:
    """Returns the grid of a pyramid.

    Args:
        shapes (Sequence[tuple[int, int]]): (H_l, W_l) of each level.
        like (Tensor): gives the device and, if it is float64, the dtype;
            half precision is too coarse for coordinates.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    centres, sizes = [], []
    for height, width in shapes:
        y = torch.arange(height, device=like.device, dtype=dtype) + 0.5
        x = torch.arange(width, device=like.device, dtype=dtype) + 0.5
        points = torch.meshgrid(x / width, y / height, indexing='xy')
        centres.append(torch.stack(points, -1).flatten(0, 1))
        # filled, not copied from a list: a copy would wait for the GPU
        sizes += [x.new_full((), 1 / width), x.new_full((), 1 / height)]
    return PixelGrid(
        tuple(shapes), torch.cat(centres), torch.stack(sizes).view(-1, 2)
    )
