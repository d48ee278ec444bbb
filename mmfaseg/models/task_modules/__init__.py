"""Training targets, point sampling and Hungarian matching."""

from .mask_matcher import MaskMatcher
from .mask_targets import (
    MaskTargets,
    targets_from_instances,
    targets_from_label_map,
)
from .points import PointTargets, draw_points, sample_points

__all__ = [
    'MaskMatcher',
    'MaskTargets',
    'PointTargets',
    'draw_points',
    'sample_points',
    'targets_from_instances',
    'targets_from_label_map',
]
