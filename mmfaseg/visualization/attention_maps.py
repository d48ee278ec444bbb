"""Attention maps on a fixed color scale.

A map is shown relative to uniform attention over its level, which has the
value 1 at any stride. The scale is logarithmic and fixed, so that layers,
queries and models can be compared.

Shapes:
    N: number of maps.
    H, W: height and width of the network input, without padding.
    H_l, W_l: size of a level. It may extend beyond the image on the right
        and at the bottom, where the network padded the image.
"""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps

from .canvas import blend

COLOR_MAP = 'inferno'
DENSITY_RANGE = (0.1, 100.0)  # times uniform attention


def to_density(attention: np.ndarray) -> np.ndarray:
    """Returns attention, (..., H_l, W_l), relative to uniform attention."""
    return attention * (attention.shape[-2] * attention.shape[-1])


def to_scale(density: np.ndarray) -> np.ndarray:
    """Maps densities to the color scale: 0 to 1, over ``DENSITY_RANGE``."""
    low, high = np.log(DENSITY_RANGE)
    logs = np.log(np.clip(density, *DENSITY_RANGE))
    return ((logs - low) / (high - low)).clip(0, 1)


def upsample(
    values: np.ndarray, stride: int, size: tuple[int, int]
) -> np.ndarray:
    """Returns maps, (N, H_l, W_l), at the size of the image, (N, H, W).

    A cell covers ``stride`` pixels along each side. The padding is cropped.
    """
    maps = torch.from_numpy(values).float()[None]
    full = F.interpolate(maps, scale_factor=stride, mode='bilinear')[0]
    return full[:, : size[0], : size[1]].numpy()


def overlay_density(
    image: np.ndarray, density: np.ndarray, stride: int
) -> np.ndarray:
    """Overlays the darkened gray image with a map of densities.

    Args:
        image (np.ndarray): uint8, shape (H, W, 3).
        density (np.ndarray): Relative to uniform attention, shape (H_l, W_l).
        stride (int): Pixels of the image per cell, along each side.

    Returns:
        np.ndarray: uint8, shape (H, W, 3).
    """
    share = upsample(to_scale(density)[None], stride, image.shape[:2])[0]
    gray = image.mean(-1, keepdims=True) * 0.6
    colors = colormaps[COLOR_MAP](share)[..., :3] * 255
    return blend(gray, colors, 0.85 * np.sqrt(share)[..., None])
