"""Metrics for mmseg's evaluator."""

from .boundary_iou import BoundaryIoU
from .component_iou import ComponentIoU

__all__ = ['BoundaryIoU', 'ComponentIoU']
