"""What runs beside the network: hooks, groups of the optimizer, shards."""

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
from .strategies import FullyShardStrategy

__all__ = [
    'DecayFreeNormConstructor',
    'DrawSegmentationHook',
    'ExactResumeHook',
    'FocusHook',
    'FullyShardStrategy',
    'NonFiniteHook',
    'ProgressBarHook',
    'SafeCheckpointHook',
    'ValidationLossHook',
]
