"""What runs beside the network: hooks and the optimizer's groups."""

from .decay_free_norm_constructor import DecayFreeNormConstructor
from .hooks import (
    DrawSegmentationHook,
    ExactResumeHook,
    FocusHook,
    NonFiniteHook,
    ProgressBarHook,
    SafeCheckpointHook,
    ValidationLossHook,
)

__all__ = [
    'DecayFreeNormConstructor',
    'DrawSegmentationHook',
    'ExactResumeHook',
    'FocusHook',
    'NonFiniteHook',
    'ProgressBarHook',
    'SafeCheckpointHook',
    'ValidationLossHook',
]
