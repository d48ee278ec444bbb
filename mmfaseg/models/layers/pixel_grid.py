"""Where the tokens of a pyramid lie.

Shapes:
    S: number of tokens, the sum of H_l * W_l over the levels.
    n_l: number of levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .chunks import is_recording

MAX_GRIDS = 16


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


Key = tuple[tuple[tuple[int, int], ...], torch.device, torch.dtype]
_grids: dict[Key, PixelGrid] = {}


def pixel_grid(shapes: Sequence[tuple[int, int]], like: Tensor) -> PixelGrid:
    """Returns the grid of a pyramid.

    The latest sizes are remembered: on a GPU nothing is launched and nothing
    copied for a size that was seen before.

    Args:
        shapes (Sequence[tuple[int, int]]): (H_l, W_l) of each level.
        like (Tensor): gives the device and, if it is float64, the dtype;
            half precision is too coarse for coordinates.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    key = (tuple(shapes), like.device, dtype)
    # sizes may be symbols; and a graph may neither read a grid that can be
    # forgotten, nor may others read one that it fills when it is replayed
    if is_recording(like.device):
        return _make_grid(*key)
    grid = _grids.get(key)
    if grid is None:
        # a tensor of inference mode could never be used in training
        with torch.inference_mode(False):
            grid = _make_grid(*key)
        if type(grid.centres) is Tensor:  # not one of a tracing mode
            while len(_grids) >= MAX_GRIDS:
                _grids.pop(next(iter(_grids)))
            _grids[key] = grid
    return grid


@torch.no_grad()
def _make_grid(
    shapes: tuple[tuple[int, int], ...],
    device: torch.device,
    dtype: torch.dtype,
) -> PixelGrid:
    centres, sizes = [], []
    for height, width in shapes:
        y = torch.arange(height, device=device, dtype=dtype) + 0.5
        x = torch.arange(width, device=device, dtype=dtype) + 0.5
        points = torch.meshgrid(x / width, y / height, indexing='xy')
        centres.append(torch.stack(points, -1).flatten(0, 1))
        # filled, not copied from a list: a copy would wait for the GPU
        sizes += [x.new_full((), 1 / width), x.new_full((), 1 / height)]
    return PixelGrid(
        shapes, torch.cat(centres), torch.stack(sizes).view(-1, 2)
    )
