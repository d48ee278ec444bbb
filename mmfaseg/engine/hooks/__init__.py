"""Runner hooks."""

from .draw_segmentation_hook import DrawSegmentationHook
from .exact_resume_hook import ExactResumeHook
from .focus_hook import FocusHook
from .non_finite_hook import NonFiniteHook
from .progress_bar_hook import ProgressBarHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .save_predictions_hook import SavePredictionsHook
from .validation_loss_hook import ValidationLossHook

__all__ = [
    'DrawSegmentationHook',
    'ExactResumeHook',
    'FocusHook',
    'NonFiniteHook',
    'ProgressBarHook',
    'SafeCheckpointHook',
    'SavePredictionsHook',
    'ValidationLossHook',
]
