"""Hooks, optimizer constructors and strategies."""

from . import hooks
from .bfloat16_optim_wrapper import Bfloat16OptimWrapper
from .decay_free_norm_constructor import DecayFreeNormConstructor
from .hooks import *  # noqa: F403
from .strategies import FullyShardStrategy

__all__ = [
    'Bfloat16OptimWrapper',
    'DecayFreeNormConstructor',
    'FullyShardStrategy',
]
__all__ += hooks.__all__
