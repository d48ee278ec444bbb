"""Boxes around masks and their sine embedding.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    H, W: the map of the masks.
"""

import torch
from torch import Tensor

from .positional_encoding import sine_embedding


def check_box_channels(embed_dims: int) -> None:
    """Raises ValueError if a box embedding cannot have this many channels."""
    if embed_dims % 8:
        raise ValueError(
            f'embed_dims={embed_dims} must be a multiple of 8, for sine and '
            'cosine of x, y, width and height'
        )


def box_embedding(probability: Tensor, embed_dims: int) -> Tensor:
    """Returns the sine embedding of the box around each mask.

    Args:
        probability (Tensor): masks, values in [0, 1], shape (B, Q, H, W).
        embed_dims (int): number of channels, C; a multiple of 8.

    Returns:
        Tensor: float32 or float64, shape (B, Q, C).
    """
    return sine_embedding(mask_boxes(probability), embed_dims // 4).flatten(2)


@torch.no_grad()
def mask_boxes(probability: Tensor) -> Tensor:
    """Returns the center and size of each mask relative to the image.

    Width and height are sqrt(12) standard deviations, those of a filled
    rectangle. An empty mask has the center of the image and size 0.

    Args:
        probability (Tensor): shape (B, Q, H, W).

    Returns:
        Tensor: x, y, width, height, float32 or float64, shape (B, Q, 4).
    """
    mass = probability.to(torch.promote_types(probability.dtype, torch.float))
    total = mass.sum((2, 3))
    mass = mass / total.clamp(min=1e-12)[..., None, None]
    centers, sizes = [], []
    for axis in (3, 2):
        along = mass.sum(5 - axis)  # (B, Q, W), then (B, Q, H)
        length = along.size(2)
        place = torch.arange(length, device=mass.device, dtype=mass.dtype)
        place = (place + 0.5) / length
        center = (along * place).sum(2)
        center = torch.where(total > 1e-12, center, 0.5)
        square = (along * (place - center[..., None]).square()).sum(2)
        # variance within a pixel, which is 1 / length wide
        square = square + along.sum(2) / (12 * length**2)
        centers.append(center)
        sizes.append((12 * square).sqrt())
    return torch.stack(centers + sizes, -1)
