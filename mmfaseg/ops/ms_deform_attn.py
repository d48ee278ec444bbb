"""Multi-scale deformable attention: public function, checks and backends.

Shapes: see :mod:`mmfaseg.ops.reference`.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from . import reference


@lru_cache(maxsize=1)
def compiled_ms_deform_attn_available() -> bool:
    """Returns whether an installed mmcv brings operators built for CUDA."""
    if not find_spec('mmcv') or not find_spec('mmcv._ext'):
        return False
    from mmcv.ops import get_compiling_cuda_version

    return get_compiling_cuda_version() != 'not available'


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Returns multi-scale deformable attention by the fastest backend.

    mmcv's compiled operator serves CUDA tensors where it is installed, the
    PyTorch definition everything else. mmcv's operator is imported on its
    first use: nothing else here knows more than torch.

    Args:
        value (Tensor): shape (B, S, h, d).
        spatial_shapes (Sequence[tuple[int, int]]): (H_l, W_l) of each level.
        sampling_locations (Tensor): shape (B, N, h, n_l, P, 2), (x, y) in
            units of the map, 0 to 1 inside.
        attention_weights (Tensor): shape (B, N, h, n_l, P).

    Returns:
        Tensor: shape (B, N, h * d), dtype of ``value``.

    Raises:
        ValueError: if the shapes do not belong together.
    """
    _check(value, spatial_shapes, sampling_locations, attention_weights)
    use_mmcv = value.is_cuda and compiled_ms_deform_attn_available()
    attend = _mmcv if use_mmcv else reference.ms_deform_attn
    # half precision is too coarse for coordinates, and for mmcv's kernel
    # (mmcv#2167)
    dtype = torch.promote_types(value.dtype, torch.float32)
    with torch.autocast(value.device.type, enabled=False):
        output = attend(
            value.to(dtype),
            spatial_shapes,
            sampling_locations.to(dtype),
            attention_weights.to(dtype),
        )
    return output.to(value.dtype)


def _check(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> None:
    tokens = sum(height * width for height, width in spatial_shapes)
    if value.dim() != 4 or value.size(1) != tokens:
        raise ValueError(
            f'value must have the shape (B, {tokens}, heads, dims), because '
            f'spatial_shapes are {list(spatial_shapes)}; it has '
            f'{tuple(value.shape)}'
        )
    batch, _, heads, _ = value.shape
    expected = (batch, heads, len(spatial_shapes))
    shape = tuple(attention_weights.shape)
    if len(shape) != 5 or (shape[0], *shape[2:4]) != expected:
        raise ValueError(
            'attention_weights must have the shape (B, N, heads, levels, '
            f'points) with (B, heads, levels) = {expected}; it has {shape}'
        )
    if tuple(sampling_locations.shape) != (*shape, 2):
        raise ValueError(
            f'sampling_locations must have the shape {(*shape, 2)}; it has '
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
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    return MultiScaleDeformableAttnFunction.apply(
        value.contiguous(),
        shapes,
        starts,
        sampling_locations.contiguous(),
        attention_weights.contiguous(),
        math.gcd(value.size(0), 64),  # must divide the batch size
    )
