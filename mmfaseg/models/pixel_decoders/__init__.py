"""Pixel decoders."""

from .faseg_pixel_decoder import FASegPixelDecoder

__all__ = ['FASegPixelDecoder']
