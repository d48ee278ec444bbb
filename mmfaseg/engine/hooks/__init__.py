"""Hooks that configs name as ``mmfaseg.X``."""

from .draw_segmentation_hook import DrawSegmentationHook
from .progress_bar_hook import ProgressBarHook

__all__ = ['DrawSegmentationHook', 'ProgressBarHook']
