"""Gathering of windows for high-resolution cross-attention.

Shapes: B batch size, C channels, K selected windows, s window size in pixels
of the stride-4 map, H_3 x W_3 that map, H_0 x W_0 the grid of windows (the
stride-32 map).
"""

from typing import Any

import torch
from torch import Tensor

from . import reference
from ._extension import extension_is_loaded, use_compiled


def hrca_gather(
    feature: Tensor,
    position: Tensor,
    window_index: Tensor,
    window_size: int,
    grid: tuple[int, int],
    level_embed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns the tokens of the selected windows.

    Only the selected windows are read, from contiguous, channels-last and
    other strided maps, without a copy. If a window is selected twice, its
    gradient is the sum of both. Results are deterministic.

    Args:
        feature (Tensor): float16, bfloat16, float32 or float64, shape
            (B, C, H_3, W_3).
        position (Tensor): K_p, shape (B, C, H_3, W_3), one of these dtypes.
        window_index (Tensor): int64, shape (B, K), values in [0, H_0 * W_0).
        window_size (int): s, pixels of the stride-4 map per window side.
        grid (tuple[int, int]): (H_0, W_0).
        level_embed (Tensor, optional): added to every token, shape (C,).

    Returns:
        tuple[Tensor, Tensor, Tensor | None]: value, key and outside.

            - value: shape (B, K * s², C), feature + level_embed, in the dtype
              that feature and position promote to.
            - key: same shape and dtype, feature + level_embed + position. Both
              are summed in float32 or float64 and rounded once.
            - outside: bool, shape (B, K * s²), true for tokens outside the
              map, where feature and position are zero; None if the windows
              tile the map.

    Raises:
        ValueError: if the shapes do not match, if the windows do not cover
            the map (see :func:`check_windows`), or if an index is out of
            range. Indices are checked on the CPU, outside of
            ``torch.compile``; a compiled graph raises RuntimeError, and a
            CUDA kernel stops.
        TypeError: if the maps are not floating point, or the indices are not
            int64.
    """
    _check(feature, position, window_index, window_size, grid, level_embed)
    shape = (feature.size(2), feature.size(3))
    outside = None
    check_windows(grid, window_size, shape)
    if shape != (grid[0] * window_size, grid[1] * window_size):
        _, outside = reference.window_pixels(
            window_index, window_size, grid, shape
        )
    if use_compiled(feature):
        value, key = torch.ops.mmfaseg.hrca_gather(
            feature, position, window_index, window_size, *grid, level_embed
        )
    else:
        value, key = reference.hrca_gather(
            feature, position, window_index, window_size, grid, level_embed
        )
    return value, key, outside


def check_windows(
    grid: tuple[int, int], window_size: int, shape: tuple[int, int]
) -> None:
    """Checks that a grid of windows covers a map.

    Windows of the last row and column may extend beyond the map.

    Args:
        grid (tuple[int, int]): (H_0, W_0).
        window_size (int): pixels of the map per window side.
        shape (tuple[int, int]): (H, W) of the map.

    Raises:
        ValueError: if the windows do not cover the map, or a whole row or
            column of windows is outside the map.
    """
    for cells, pixels in zip(grid, shape, strict=True):
        if not (cells - 1) * window_size < pixels <= cells * window_size:
            raise ValueError(
                f'windows of {window_size}x{window_size} pixels on a grid of '
                f'{grid} do not cover a map of {shape} exactly once: the '
                'window size must be the ratio of the strides of both maps, '
                'or images must be padded to a multiple of the coarsest stride'
            )


def _check(
    feature: Tensor,
    position: Tensor,
    window_index: Tensor,
    window_size: int,
    grid: tuple[int, int],
    level_embed: Tensor | None,
) -> None:
    if feature.dim() != 4:
        raise ValueError(
            'feature must have the shape (B, C, H, W), but has '
            f'{tuple(feature.shape)}'
        )
    if position.shape != feature.shape:
        raise ValueError(
            f'position has the shape {tuple(position.shape)}, but feature '
            f'has {tuple(feature.shape)}: both must have the same shape'
        )
    for name, tensor in (('feature', feature), ('position', position)):
        if not tensor.is_floating_point():
            raise TypeError(
                f'{name} must be floating point, but is {tensor.dtype}'
            )
    if level_embed is not None and level_embed.shape != feature.shape[1:2]:
        raise ValueError(
            f'level_embed must have the shape ({feature.size(1)},), one '
            f'number per channel, but has {tuple(level_embed.shape)}'
        )
    if window_size < 1 or min(grid) < 1:
        raise ValueError(
            f'window_size={window_size} and grid={grid} must be at least 1'
        )
    if window_index.dtype != torch.int64:
        raise TypeError(
            f'window_index must be int64, but is {window_index.dtype}: use '
            'window_index.long()'
        )
    if window_index.dim() != 2 or window_index.size(0) != feature.size(0):
        raise ValueError(
            f'window_index must have the shape ({feature.size(0)}, K), but '
            f'has {tuple(window_index.shape)}'
        )
    if _has_host_values(window_index) and window_index.numel():
        cells = grid[0] * grid[1]
        for value in map(int, torch.aminmax(window_index)):
            if not 0 <= value < cells:
                raise ValueError(
                    f'window_index contains {value}, but a grid of {grid} has '
                    f'the windows 0 to {cells - 1}'
                )


def _has_host_values(tensor: Tensor) -> bool:
    """Returns whether values can be read without a sync or graph break."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return False
    return type(tensor) is Tensor and tensor.device.type == 'cpu'


def _fake_gather(
    feature: Tensor,
    position: Tensor,
    window_index: Tensor,
    window_size: int,
    grid_height: int,
    grid_width: int,
    level_embed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    batch, channels = feature.shape[:2]
    tokens = window_index.size(1) * window_size**2
    dtype = torch.promote_types(feature.dtype, position.dtype)
    value = feature.new_empty(batch, tokens, channels, dtype=dtype)
    return value, torch.empty_like(value)


def _fake_scatter(
    grad: Tensor,
    other: Tensor | None,
    window_index: Tensor,
    window_size: int,
    grid_height: int,
    grid_width: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    return torch.empty(
        (grad.size(0), grad.size(2), height, width),
        dtype=dtype,
        device=grad.device,
        memory_format=torch.channels_last
        if channels_last
        else torch.contiguous_format,
    )


def _save_for_backward(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]
) -> None:
    feature, position, window_index, *windows, level_embed = inputs
    ctx.save_for_backward(window_index)
    ctx.windows = windows
    ctx.maps = [
        (
            x.size(2),
            x.size(3),
            x.dtype,
            x.is_contiguous(memory_format=torch.channels_last)
            and not x.is_contiguous(),
        )
        for x in (feature, position)
    ]
    ctx.embed_dtype = None if level_embed is None else level_embed.dtype


def _backward(
    ctx: Any, grad_value: Tensor, grad_key: Tensor
) -> tuple[Tensor | None, ...]:
    (window_index,) = ctx.saved_tensors
    scatter = torch.ops.mmfaseg.hrca_scatter
    feature_map, position_map = ctx.maps
    grad_feature = grad_position = grad_embed = None
    if ctx.needs_input_grad[0]:
        grad_feature = scatter(
            grad_value, grad_key, window_index, *ctx.windows, *feature_map
        )
    if ctx.needs_input_grad[1]:
        grad_position = scatter(
            grad_key, None, window_index, *ctx.windows, *position_map
        )
    if ctx.needs_input_grad[6]:
        sums = torch.promote_types(grad_key.dtype, torch.float32)
        total = grad_value.sum((0, 1), dtype=sums)
        total = total + grad_key.sum((0, 1), dtype=sums)
        grad_embed = total.to(ctx.embed_dtype)
    return grad_feature, grad_position, None, None, None, None, grad_embed


def reject_double_backward(ctx: Any, *grads: Tensor) -> None:
    """Raises an error: the compiled operators have no second derivative."""
    raise RuntimeError(
        'compiled operators of mmfaseg can be differentiated only once: for '
        "a second derivative use mmfaseg.ops.use_backend('reference')"
    )


if extension_is_loaded():
    torch.library.register_fake('mmfaseg::hrca_gather')(_fake_gather)
    torch.library.register_fake('mmfaseg::hrca_scatter')(_fake_scatter)
    torch.library.register_autograd(
        'mmfaseg::hrca_gather', _backward, setup_context=_save_for_backward
    )
    torch.library.register_autograd(
        'mmfaseg::hrca_scatter', reject_double_backward
    )
