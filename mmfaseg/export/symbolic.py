"""Forms of mmseg's layers that ``torch.export`` traces for any size.

Shapes:
    B: batch size.
    C: number of channels.
    H, W: height and width of the map.
    N: number of windows in an image.
    S: side of the windows.

The originals compute sizes with ``int()`` and floating-point numbers, which
turns the sizes of the example into constants of the graph.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from mmseg.models.backbones.swin import ShiftWindowMSA
from mmseg.models.utils.embed import AdaptivePadding
from mmseg.models.utils.wrappers import Upsample
from torch import Tensor


@contextmanager
def symbolic_sizes() -> Iterator[None]:
    """Replaces layers of mmseg by equal ones that support symbolic sizes.

    The results are bit-identical.
    """
    with (
        patch.object(ShiftWindowMSA, 'forward', _shifted_window_attention),
        patch.object(AdaptivePadding, 'get_pad_shape', _get_pad_shape),
        patch.object(Upsample, 'forward', _upsample),
    ):
        yield


def _shifted_window_attention(
    layer: Any, query: Tensor, hw_shape: tuple[int, int]
) -> Tensor:
    """Computes ``ShiftWindowMSA`` in evaluation mode with gathered windows.

    Reshaping a padded map into windows requires to divide symbolic sizes,
    which takes minutes in each layer. ``query`` and the result have shape
    (B, H * W, C); ``hw_shape`` is (H, W).
    """
    size, shift = layer.window_size, layer.shift_size
    batch, _, channels = query.shape
    height, width = hw_shape
    rows, columns = (height + size - 1) // size, (width + size - 1) // size
    bottom, right = rows * size, columns * size  # of the padded map
    padded = F.pad(
        query.view(batch, height, width, channels),
        (0, 0, 0, right - width, 0, bottom - height),
    )
    # coordinates of the pixels of each window in the shifted map, (N, S)
    device = query.device
    window = torch.arange(rows * columns, device=device).unsqueeze(1)
    within = torch.arange(size, device=device)
    y = window // columns * size + within
    x = _remainder(window, columns) * size + within
    windows = padded[
        :,
        _remainder(y + shift, bottom).unsqueeze(2),
        _remainder(x + shift, right).unsqueeze(1),
    ]
    windows = windows.flatten(0, 1).flatten(1, 2)  # (B * N, S * S, C)
    mask = None
    if shift:
        # pixels attend within regions that are adjacent in the map
        vertical = (y >= bottom - size).long() + (y >= bottom - shift)
        horizontal = (x >= right - size).long() + (x >= right - shift)
        region = 3 * vertical.unsqueeze(2) + horizontal.unsqueeze(1)
        region = region.flatten(1)
        mask = torch.where(region[:, None] == region[:, :, None], 0.0, -100.0)
        mask = mask.to(query.dtype).expand(batch, -1, -1, -1).flatten(0, 1)
    output = layer.w_msa(windows, mask).flatten(0, 1)
    # index of each pixel of the map in the windows, (H, W)
    y = torch.arange(height, device=device).unsqueeze(1) + (bottom - shift)
    y = _remainder(y, bottom)
    x = torch.arange(width, device=device) + (right - shift)
    x = _remainder(x, right)
    window = y // size * columns + x // size
    index = (window * size + y % size) * size + x % size
    first = torch.arange(batch, device=device).unsqueeze(1) * (bottom * right)
    return layer.drop(output[first + index.flatten()])


def _remainder(values: Tensor, divisor: int) -> Tensor:
    """Computes ``values % divisor``, which ONNX has for constants only.

    The values are at least 0; the divisor may be symbolic.
    """
    return values - values // divisor * divisor


def _get_pad_shape(layer: Any, input_shape: tuple) -> tuple[int, ...]:
    """Returns the padding of height and width."""
    padding = []
    for side, kernel, stride, dilation in zip(
        input_shape,
        layer.kernel_size,
        layer.stride,
        layer.dilation,
        strict=True,
    ):
        covered = -(-side // stride) * stride - stride
        padding.append(max(covered + (kernel - 1) * dilation + 1 - side, 0))
    return tuple(padding)


def _upsample(layer: Any, x: Tensor) -> Tensor:
    """Resizes maps, (B, C, H, W); integer factors need no rounding."""
    size = layer.size
    if not size:
        factor = layer.scale_factor
        size = [
            side * int(factor) if factor == int(factor) else int(side * factor)
            for side in x.shape[-2:]
        ]
    return F.interpolate(
        x, size, mode=layer.mode, align_corners=layer.align_corners
    )
