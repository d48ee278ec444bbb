"""Alternatives to HRCA for ablations.

Shapes: B batch size, Q queries, H_0 x W_0 the grid of windows, K selected
windows per query.
"""

import torch
from torch import Tensor
from typing_extensions import override

from mmfaseg.ops import windows_tile_map
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

    @override
    def forward(
        self,
        query: Tensor,
        state: DecoderState,
        level: FeatureLevel,
        need_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        query = query + self.select_query_pos(state)
        return self.attn(query, level.key, level.value, None, need_attention)


@MODELS.register_module()
class PerQueryWindowAttention(HighResolutionCrossAttention):
    """HRCA in which every query selects its own windows.

    The windows of all queries together cover most of the map, so it is masked
    instead of gathered, at the cost of dense attention. The arguments are the
    same as for :class:`HighResolutionCrossAttention`.
    """

    needs_tokens = True

    @override
    def importance(self, state: DecoderState, level: FeatureLevel) -> Tensor:
        """Returns the attention of each query to each window.

        Returns:
            Tensor: shape (B, Q, H_0, W_0).
        """
        assert state.coarse_attention is not None
        return sum_windows(
            state.coarse_attention,
            level.window_grid,
            2**self.attention_level,
        )

    @override
    def forward(
        self,
        query: Tensor,
        state: DecoderState,
        level: FeatureLevel,
        need_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        windows_tile_map(level.window_grid, self.window_size, level.shape)
        window_index = self.select_windows(state, level)  # (B, Q, K)
        pixels, _ = window_pixels(
            window_index.flatten(1),
            self.window_size,
            level.window_grid,
            level.shape,
        )
        height, width = level.shape
        blocked = torch.ones(
            *query.shape[:2],
            height * width,
            dtype=torch.bool,
            device=query.device,
        )
        blocked.scatter_(2, pixels.unflatten(1, (query.size(1), -1)), False)
        query = query + self.select_query_pos(state)
        return self.attn(
            query, level.key, level.value, blocked, need_attention
        )
