"""Decoder layer with dynamic focus-aware positional queries.

Shapes: B batch size, Q queries, C embed_dims.
"""

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfaseg.registry import MODELS

from .attention import FFN, MultiheadAttention
from .build_part import build_part
from .cross_attention import CrossAttention
from .feature_level import DecoderState, FeatureLevel


@MODELS.register_module()
class DFPQDecoderLayer(BaseModule):
    """Cross-attention, self-attention and FFN, each followed by LayerNorm.

    Args:
        embed_dims (int): number of channels, C.
        cross_attn (dict): config of a :class:`CrossAttention`. The layer adds
            ``embed_dims`` and, by default, ``num_heads``. Every decoder layer
            must store the module as ``self.cross_attn``.
        num_heads (int): number of attention heads; must divide C.
        feedforward_channels (int): hidden channels of the FFN.
    """

    def __init__(
        self,
        embed_dims: int,
        cross_attn: dict[str, Any],
        num_heads: int = 8,
        feedforward_channels: int = 2048,
    ) -> None:
        super().__init__()
        self.cross_attn = build_part(
            'cross_attn',
            dict(num_heads=num_heads) | dict(cross_attn),
            CrossAttention,
            embed_dims=embed_dims,
        )
        self.cross_norm = nn.LayerNorm(embed_dims)
        self.self_attn = MultiheadAttention(embed_dims, num_heads)
        self.self_norm = nn.LayerNorm(embed_dims)
        self.ffn = FFN(embed_dims, feedforward_channels)
        self.ffn_norm = nn.LayerNorm(embed_dims)

    def forward(
        self,
        query: Tensor,
        state: DecoderState,
        level: FeatureLevel,
        need_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the updated queries and, on request, the attention.

        Arguments and results are those of :meth:`CrossAttention.forward`.
        """
        attended, attention = self.cross_attn(
            query, state, level, need_attention=need_attention
        )
        query = self.cross_norm(query + attended)
        with_pos = query + state.query_pos
        attended, _ = self.self_attn(with_pos, with_pos, query)
        query = self.self_norm(query + attended)
        return self.ffn_norm(query + self.ffn(query)), attention
