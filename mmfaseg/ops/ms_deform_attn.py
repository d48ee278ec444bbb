"""Multi-scale deformable attention.

Shapes: see :mod:`mmfaseg.ops.reference`.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from . import reference
from ._extension import (
    compiled_devices,
    extension_is_loaded,
    reference_requested,
    use_compiled,
)
from .hrca import reject_double_backward

MAX_LEVELS = 16


@lru_cache(maxsize=1)
def mmcv_has_cuda_ops() -> bool:
    """Returns whether the installed mmcv has operators built for CUDA."""
    if not find_spec('mmcv') or not find_spec('mmcv._ext'):
        return False
    from mmcv.ops import get_compiling_cuda_version

    return get_compiling_cuda_version() != 'not available'


def _use_mmcv_op() -> bool:
    return not reference_requested() and mmcv_has_cuda_ops()


def describe_ms_deform_attn() -> str:
    """Returns a description of the implementations on each device."""
    parts = [f'mmfaseg on {device}' for device in compiled_devices()]
    if 'cuda' not in compiled_devices() and _use_mmcv_op():
        parts.append('mmcv on cuda')
    return ', '.join([*parts, 'PyTorch elsewhere']) if parts else 'PyTorch'


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Returns multi-scale deformable attention from the fastest backend.

    Zhu et al., *Deformable DETR*, ICLR 2021, equation 3. The first available
    of these is used: the compiled operator of this package for the device of
    ``value``, on CUDA the operator of mmcv, the PyTorch reference. Sums are
    computed in float32 or float64. If a location or weight is not finite, the
    output of the compiled operator is not finite. On CUDA, the gradient of
    ``value`` is not deterministic.

    Args:
        value (Tensor): float16, bfloat16, float32 or float64, shape
            (B, S, h, d): the levels one after the other, each row-major.
        spatial_shapes (Sequence[tuple[int, int]]): (H_l, W_l) of each level.
        sampling_locations (Tensor): shape (B, N, h, n_l, P, 2), (x, y) in
            units of the map, 0 to 1 inside; converted to float32 at least.
        attention_weights (Tensor): shape (B, N, h, n_l, P).

    Returns:
        Tensor: shape (B, N, h * d), dtype of ``value``.

    Raises:
        ValueError: if the shapes do not match, or if there are more than 16
            levels.
        TypeError: if ``value`` is not floating point.
    """
    _check(value, spatial_shapes, sampling_locations, attention_weights)
    # half precision is not precise enough for coordinates
    dtype = torch.promote_types(value.dtype, torch.float32)
    locations = sampling_locations.to(dtype)
    weights = attention_weights.to(dtype)
    if use_compiled(value):
        return torch.ops.mmfaseg.ms_deform_attn(
            value, list(chain(*spatial_shapes)), locations, weights
        )
    use_mmcv = value.is_cuda and _use_mmcv_op()
    attend = _mmcv if use_mmcv else reference.ms_deform_attn
    # mmcv's kernel computes half-precision inputs in half (mmcv#2167)
    with torch.autocast(value.device.type, enabled=False):
        output = attend(value.to(dtype), spatial_shapes, locations, weights)
    return output.to(value.dtype)


def _check(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> None:
    sizes = [height * width for height, width in spatial_shapes]
    tokens = sum(sizes)
    if any(min(shape) < 1 for shape in spatial_shapes):
        raise ValueError(
            f'spatial_shapes {list(spatial_shapes)} must be at least (1, 1)'
        )
    if value.dim() != 4 or value.size(1) != tokens:
        raise ValueError(
            f'value must have the shape (B, {tokens}, heads, dims) for '
            f'spatial_shapes {list(spatial_shapes)}, but has '
            f'{tuple(value.shape)}'
        )
    if not value.is_floating_point():
        raise TypeError(f'value must be floating point, but is {value.dtype}')
    if len(sizes) > MAX_LEVELS:
        raise ValueError(
            f'{len(sizes)} levels, but at most {MAX_LEVELS} are supported'
        )
    batch, _, heads, _ = value.shape
    expected = (batch, heads, len(spatial_shapes))
    shape = tuple(attention_weights.shape)
    if len(shape) != 5 or (shape[0], *shape[2:4]) != expected:
        raise ValueError(
            'attention_weights must have the shape (B, N, heads, levels, '
            f'points) with (B, heads, levels) = {expected}, but has {shape}'
        )
    if tuple(sampling_locations.shape) != (*shape, 2):
        raise ValueError(
            f'sampling_locations must have the shape {(*shape, 2)}, but has '
            f'{tuple(sampling_locations.shape)}'
        )


def _mmcv(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
    )

    shapes = torch.as_tensor(spatial_shapes, device=value.device)
    sizes = shapes.prod(1)
    return MultiScaleDeformableAttnFunction.apply(
        value.contiguous(),
        shapes,
        sizes.cumsum(0) - sizes,  # first token of each level
        sampling_locations.contiguous(),
        attention_weights.contiguous(),
        math.gcd(value.size(0), 64),  # must divide the batch size
    )


def _fake_forward(
    value: Tensor,
    spatial_shapes: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    batch, _, heads, dims = value.shape
    return value.new_empty(batch, attention_weights.size(1), heads * dims)


def _fake_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        value.new_empty(value.shape),
        sampling_locations.new_empty(sampling_locations.shape),
        attention_weights.new_empty(attention_weights.shape),
    )


def _save_for_backward(
    ctx: Any, inputs: tuple[Any, ...], output: Tensor
) -> None:
    value, ctx.shapes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    value, locations, weights = ctx.saved_tensors
    grad_value, grad_locations, grad_weights = (
        torch.ops.mmfaseg.ms_deform_attn_backward(
            grad_output, value, ctx.shapes, locations, weights
        )
    )
    return grad_value, None, grad_locations, grad_weights


if extension_is_loaded():
    torch.library.register_fake('mmfaseg::ms_deform_attn')(_fake_forward)
    torch.library.register_fake('mmfaseg::ms_deform_attn_backward')(
        _fake_backward
    )
    torch.library.register_autograd(
        'mmfaseg::ms_deform_attn',
        _backward,
        setup_context=_save_for_backward,
    )
    torch.library.register_autograd(
        'mmfaseg::ms_deform_attn_backward', reject_double_backward
    )
