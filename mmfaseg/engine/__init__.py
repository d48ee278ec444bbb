"""Hooks, optimizer constructors and strategies."""

from . import hooks
from .decay_free_norm_constructor import DecayFreeNormConstructor
from .hooks import *  # noqa: F403
from .strategies import FullyShardStrategy

__all__ = ['DecayFreeNormConstructor', 'FullyShardStrategy']
__all__ += hooks.__all__
