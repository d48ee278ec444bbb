"""Point sampling (Kirillov et al., *PointRend*, CVPR 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor


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
    grid = (2 * points - 1).unsqueeze(1)  # (N, 1, P, 2)
    samples = F.grid_sample(
        maps,
        grid.to(maps.dtype),
        mode='bilinear',
        padding_mode='zeros',
        align_corners=False,
    )
    return samples.squeeze(2)
