"""Hooks that configs name as ``mmfaseg.X``."""

from .draw_segmentation_hook import DrawSegmentationHook
from .focus_hook import FocusHook
from .progress_bar_hook import ProgressBarHook
from .validation_loss_hook import ValidationLossHook

__all__ = [
    'DrawSegmentationHook',
    'FocusHook',
    'ProgressBarHook',
    'ValidationLossHook',
]
