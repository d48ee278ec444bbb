"""Operators of FASeg, with compiled and PyTorch implementations."""

from ._extension import describe_backend, extension_is_loaded, use_backend
from .hrca import check_windows, hrca_gather
from .linear import TokenLinear, linear
from .ms_deform_attn import (
    describe_ms_deform_attn,
    mmcv_has_cuda_ops,
    ms_deform_attn,
)

__all__ = [
    'TokenLinear',
    'check_windows',
    'describe_backend',
    'describe_ms_deform_attn',
    'extension_is_loaded',
    'hrca_gather',
    'linear',
    'mmcv_has_cuda_ops',
    'ms_deform_attn',
    'use_backend',
]
