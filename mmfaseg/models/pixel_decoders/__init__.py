"""Pixel decoders."""

from .faseg_pixel_decoder import FASegPixelDecoder
from .ms_deform_attn_pixel_decoder import MSDeformAttnPixelDecoder

__all__ = ['FASegPixelDecoder', 'MSDeformAttnPixelDecoder']
