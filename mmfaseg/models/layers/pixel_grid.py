"""Coordinates of the tokens of a feature pyramid.

Shapes: S tokens (the sum of H_l * W_l over the levels), n_l levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PixelGrid:
    """Pixel coordinates of a feature pyramid, normalized to [0, 1].

    Attributes:
        shapes (tuple[tuple[int, int], ...]): (H_l, W_l) of each level.
        centers (Tensor): center (x, y) of every pixel, shape (S, 2).
        pixel_size (Tensor): (1 / W_l, 1 / H_l) of each level, shape (n_l, 2).
    """

    shapes: tuple[tuple[int, int], ...]
    centers: Tensor
    pixel_size: Tensor


@torch.no_grad()
def pixel_grid(shapes: Sequence[tuple[int, int]], like: Tensor) -> PixelGrid:
    """Returns the grid of a pyramid.

    Args:
        shapes (Sequence[tuple[int, int]]): (H_l, W_l) of each level.
        like (Tensor): tensor whose device is used, and whose dtype promoted
            to at least float32, which coordinates need.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    centers, sizes = [], []
    for height, width in shapes:
        y = torch.arange(height, device=like.device, dtype=dtype) + 0.5
        x = torch.arange(width, device=like.device, dtype=dtype) + 0.5
        points = torch.meshgrid(x / width, y / height, indexing='xy')
        centers.append(torch.stack(points, -1).flatten(0, 1))
        # unlike a copy from a list, this does not synchronize with the GPU
        sizes += [x.new_full((), 1 / width), x.new_full((), 1 / height)]
    return PixelGrid(
        tuple(shapes), torch.cat(centers), torch.stack(sizes).view(-1, 2)
    )
