"""Distributed training strategies."""

from .fully_shard_strategy import FullyShardStrategy

__all__ = ['FullyShardStrategy']
