"""Operators of FASeg; they know torch, and mmcv's operator where it is."""

from .hrca import hrca_gather, window_pixels, windows_tile_map
from .ms_deform_attn import (
    compiled_ms_deform_attn_available,
    ms_deform_attn,
)

__all__ = [
    'compiled_ms_deform_attn_available',
    'hrca_gather',
    'ms_deform_attn',
    'window_pixels',
    'windows_tile_map',
]
