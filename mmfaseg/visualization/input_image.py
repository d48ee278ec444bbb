"""Conversion of network inputs to images."""

import mmcv
import numpy as np
import torch
from torch import Tensor


def inputs_to_image(
    inputs: Tensor, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Converts the output of a test pipeline to an RGB image.

    Args:
        inputs (Tensor): uint8, or float32 with values 0 to 255, shape
            (3, H, W), BGR, as mmcv loads images; not yet normalized or
            padded.
        size (tuple[int, int], optional): Height and width to resize to.

    Returns:
        np.ndarray: uint8, shape (H, W, 3), or ``size`` instead of (H, W).

    Raises:
        ValueError: If the shape is not (3, H, W).
        TypeError: If the values are neither uint8 nor float32 from 0 to 255.
    """
    if inputs.ndim != 3 or inputs.shape[0] != 3:
        raise ValueError(
            f'inputs must have shape (3, H, W), got {tuple(inputs.shape)}; '
            'pass one unbatched color image'
        )
    if inputs.dtype == torch.float32:  # LoadImageFromFile(to_float32=True)
        low, high = inputs.aminmax()
        if low < -0.5 or high > 255.5:
            raise TypeError(
                f'inputs have values from {low:g} to {high:g}, not 0 to 255; '
                'leave normalization to the data preprocessor'
            )
        inputs = inputs.round().clamp(0, 255).to(torch.uint8)
    if inputs.dtype != torch.uint8:
        raise TypeError(
            f'inputs must have dtype uint8 or float32, got {inputs.dtype}'
        )
    image = inputs.cpu().flip(0).permute(1, 2, 0).contiguous().numpy()
    if size is not None and image.shape[:2] != tuple(size):
        image = mmcv.imresize(image, (size[1], size[0]))
    return image
