"""Matching of predictions and segments."""

from .mask_matcher import MaskMatcher
from .points import draw_points, sample_points
from .segments import (
    Segments,
    segments_from_label_map,
    segments_from_objects,
)

__all__ = [
    'MaskMatcher',
    'Segments',
    'draw_points',
    'sample_points',
    'segments_from_label_map',
    'segments_from_objects',
]
