"""Alternatives to HRCA for ablations.

Shapes: B batch size, Q queries, H_0 x W_0 the grid of windows, K selected
windows per query.
"""

import torch
from torch import Tensor
from typing_extensions import override

from mmfaseg.ops import check_windows
from mmfaseg.ops.reference import window_pixels
from mmfaseg.registry import MODELS

from .cross_attention import CrossAttention
from .feature_level import DecoderState, FeatureLevel
from .hrca import HighResolutionCrossAttention, sum_windows


@MODELS.register_module()
class DenseCrossAttention(CrossAttention):
    """Attends to the whole stride-4 map, with the learned positional query.

    Args:
        embed_dims (int): number of channels.
        num_heads (int): number of attention heads; must divide ``embed_dims``.
    """

    @override
    def select_query_pos(self, state: DecoderState) -> Tensor:
        return state.query_embed


@MODELS.register_module()
class PerQueryWindowAttention(HighResolutionCrossAttention):
    """HRCA in which every query selects its own windows.

    The windows of all queries together cover most of the map, so it is masked
    instead of gathered, at the cost of dense attention. The arguments are the
    same as for :class:`HighResolutionCrossAttention`.
    """

    needs_tokens = True
    forward = CrossAttention.forward  # masks instead of gathering

    @override
    def importance(self, state: DecoderState, level: FeatureLevel) -> Tensor:
        """Returns the attention to each window, (B, Q, H_0, W_0)."""
        assert state.coarse_attention is not None
        size = 2**self.coarse_level
        return sum_windows(state.coarse_attention, level.window_grid, size)

    @override
    def blocked_pixels(
        self, state: DecoderState, level: FeatureLevel
    ) -> Tensor:
        grid, shape = level.window_grid, level.shape
        check_windows(grid, self.window_size, shape)
        index = self.select_windows(state, level)  # (B, Q, K)
        pixels, _ = window_pixels(
            index.flatten(1), self.window_size, grid, shape
        )
        batch, queries = index.shape[:2]
        blocked = index.new_ones(
            batch, queries, shape[0] * shape[1], dtype=torch.bool
        )
        return blocked.scatter_(2, pixels.view(batch, queries, -1), False)
