"""Metrics for mmseg's evaluator."""

from .boundary_iou import BoundaryIoU
from .component_iou import ComponentIoU
from .percent import MAIN_METRICS, in_percent, main_metric

__all__ = [
    'MAIN_METRICS',
    'BoundaryIoU',
    'ComponentIoU',
    'in_percent',
    'main_metric',
]
