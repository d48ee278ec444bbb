"""Conversion of network inputs to images.

Shapes:
    C, H, W: channels, height and width of an image.
"""

import mmcv
import numpy as np
from torch import Tensor

PERCENTILES = (1, 99)  # that become 0 and 255


def inputs_to_image(
    inputs: Tensor, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Converts the output of a test pipeline to an RGB image.

    Args:
        inputs (Tensor): Shape (C, H, W), not yet normalized or padded; see
            :func:`image_to_rgb`.
        size (tuple[int, int], optional): Height and width to resize to.

    Returns:
        np.ndarray: uint8, shape (H, W, 3), or ``size`` instead of (H, W).
    """
    image = image_to_rgb(inputs.cpu().permute(1, 2, 0).numpy())
    if size is not None and image.shape[:2] != tuple(size):
        image = mmcv.imresize(image, (size[1], size[0]))
    return image


def image_to_rgb(image: np.ndarray) -> np.ndarray:
    """Converts an image with any number of channels for display.

    The first three channels are blue, green and red, as mmcv loads images; of
    one or two channels, the first is shown as gray. Values other than uint8
    are scaled to 8 bits, from the first to the 99th percentile of the shown
    channels, except float32 with values from 0 to 255 and a maximum above 1.

    Args:
        image (np.ndarray): Integers or floats, shape (H, W, C) or (H, W).

    Returns:
        np.ndarray: uint8, shape (H, W, 3), RGB.
    """
    if image.ndim == 2:
        image = image[..., None]
    image = image[..., 2::-1] if image.shape[2] >= 3 else image[..., :1]
    if image.dtype != np.uint8:
        image = _scale_to_uint8(image)
    if image.shape[2] == 1:
        return np.repeat(image, 3, -1)
    return np.ascontiguousarray(image)


def _scale_to_uint8(image: np.ndarray) -> np.ndarray:
    is_float32 = image.dtype == np.float32  # LoadImageFromFile(to_float32)
    image = image.astype(np.float64)
    finite = image[np.isfinite(image)]
    if not finite.size:
        return np.zeros(image.shape, np.uint8)
    if not (is_float32 and finite.min() >= -0.5 and 1 < finite.max() <= 255.5):
        low, high = np.percentile(finite, PERCENTILES)
        image = (image - low) / max(high - low, 1e-12) * 255
    image = np.nan_to_num(image, posinf=255, neginf=0)
    return image.round().clip(0, 255).astype(np.uint8)
