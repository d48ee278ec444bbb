"""Sampling at random points (Kirillov et al., *PointRend*, CVPR 2020).

Shapes: n targets of an image of size H x W, N masks with P points each.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .mask_targets import MaskTargets


def draw_points(shape: tuple[int, int], device: torch.device) -> Tensor:
    """Returns uniform random points, (x, y) in [0, 1), shape (*shape, 2)."""
    return torch.rand(*shape, 2, device=device)


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Samples maps bilinearly with zero padding.

    Args:
        maps (Tensor): shape (N, M, H, W).
        points (Tensor): (x, y) relative to the map size, in [0, 1], shape
            (N, P, 2).

    Returns:
        Tensor: shape (N, M, P).
    """
    grid = (2 * points).sub_(1).unsqueeze(1)  # (N, 1, P, 2)
    grid = grid.to(maps.dtype)
    count, channels, *size = maps.shape
    groups = 1
    if count == 1 and maps.device.type == 'cpu':
        # each thread samples whole maps: split the channels
        groups = math.gcd(channels, torch.get_num_threads())
    maps = maps.reshape(count * groups, channels // groups, *size)
    grid = grid.expand(count * groups, -1, -1, -1)
    samples = F.grid_sample(maps, grid, align_corners=False)
    return samples.view(count, channels, points.size(1))


class PointTargets:
    """Targets of one image as floating-point maps for point sampling.

    Args:
        targets (MaskTargets): targets of the image.
        dtype (torch.dtype): dtype of the maps and samples.
    """

    def __init__(self, targets: MaskTargets, dtype: torch.dtype) -> None:
        self.masks = targets.masks.to(dtype)  # (n, H, W)
        self.ignored = None
        if targets.ignored is not None:
            self.ignored = targets.ignored.to(dtype)[None, None]

    def sample(self, index: Tensor, points: Tensor) -> Tensor:
        """Samples the target masks ``index``, (N,), at points (N, P, 2).

        The N indices are distinct, as each target has one query. Points are
        sorted by target instead of maps by row, as points are much smaller.
        Maps are copied only if some targets are not sampled.
        """
        order = index.argsort()
        maps = self.masks
        if len(order) < len(maps):
            maps = maps[index[order]]
        samples = torch.empty_like(points[..., 0], dtype=maps.dtype)
        samples[order] = sample_points(maps[:, None], points[order])[:, 0]
        return samples

    def sample_all(self, points: Tensor) -> Tensor:
        """Samples all target masks at points (N, P, 2); returns (N, n, P)."""
        flat = points.flatten(0, 1)[None]
        samples = sample_points(self.masks[None], flat)
        return samples[0].unflatten(1, points.shape[:2]).transpose(0, 1)

    def sample_ignored(self, points: Tensor) -> Tensor:
        """Returns whether points (N, P, 2) touch an ignored pixel, (N, P)."""
        if self.ignored is None:
            return torch.zeros_like(points[..., 0], dtype=torch.bool)
        samples = sample_points(self.ignored, points.flatten(0, 1)[None])
        return (samples > 0).view(points.shape[:2])
