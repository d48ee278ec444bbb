"""Operators of FASeg, with compiled and PyTorch implementations."""

from ._extension import describe_backend, extension_is_loaded, use_backend
from .hrca import hrca_gather, windows_tile_map
from .linear import TokenLinear, linear
from .ms_deform_attn import (
    compiled_ms_deform_attn_available,
    describe_ms_deform_attn,
    ms_deform_attn,
)

__all__ = [
    'TokenLinear',
    'compiled_ms_deform_attn_available',
    'describe_backend',
    'describe_ms_deform_attn',
    'extension_is_loaded',
    'hrca_gather',
    'linear',
    'ms_deform_attn',
    'use_backend',
    'windows_tile_map',
]
