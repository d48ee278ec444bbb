"""Decode heads for MMSegmentation."""

from .faseg_head import FASegHead

__all__ = ['FASegHead']
