"""How a network is spread over processes, beyond what mmengine has."""

from .fully_shard_strategy import FullyShardStrategy

__all__ = ['FullyShardStrategy']
