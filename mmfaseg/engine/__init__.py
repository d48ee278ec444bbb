"""Hooks, optimizer constructors and strategies."""

from .bfloat16_optim_wrapper import Bfloat16OptimWrapper
from .decay_free_norm_constructor import DecayFreeNormConstructor
from .hooks import (
    DrawSegmentationHook,
    ExactResumeHook,
    FocusHook,
    NonFiniteHook,
    ProgressBarHook,
    SafeCheckpointHook,
    SavePredictionsHook,
    ValidationLossHook,
)
from .strategies import FullyShardStrategy

__all__ = [
    'Bfloat16OptimWrapper',
    'DecayFreeNormConstructor',
    'DrawSegmentationHook',
    'ExactResumeHook',
    'FocusHook',
    'FullyShardStrategy',
    'NonFiniteHook',
    'ProgressBarHook',
    'SafeCheckpointHook',
    'SavePredictionsHook',
    'ValidationLossHook',
]
