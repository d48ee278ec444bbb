"""Heads for the detectors of MMDetection."""

from .faseg_det_head import FASegDetHead

__all__ = ['FASegDetHead']
