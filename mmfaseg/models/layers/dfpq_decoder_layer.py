"""One block of the decoder, and the masked cross-attention in most of them.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    L: number of pixels of the level, H * W.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .attention import MultiheadAttention
from .ffn import make_ffn
from .hrca import HighResolutionCrossAttention, WindowFocus, WindowMemory


@dataclass
class TokenMemory:
    """A level as tokens: positions go into keys only.

    Attributes:
        key (Tensor): feature + level embedding + K_p, shape (B, L, C).
        value (Tensor): feature + level embedding, shape (B, L, C).
    """

    key: Tensor
    value: Tensor


class MaskedCrossAttention(nn.Module):
    """Attends to the pixels inside each query's current mask.

    Args:
        embed_dims (int): C.
        num_heads (int): number of heads; must divide C.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.attn = MultiheadAttention(embed_dims, num_heads)

    def forward(
        self,
        query: Tensor,
        memory: TokenMemory,
        blocked: Tensor,
        need_focus: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the attended values and where each query looked.

        Args:
            query (Tensor): positions already added, shape (B, Q, C).
            memory (TokenMemory): the level.
            blocked (Tensor): bool, shape (B, Q, L), no row wholly true.
            need_focus (bool): also return the attention.

        Returns:
            tuple[Tensor, Tensor | None]: output, shape (B, Q, C), and the
            attention averaged over heads, shape (B, Q, L).
        """
        return self.attn(query, memory.key, memory.value, blocked, need_focus)


class DFPQDecoderLayer(nn.Module):
    """Cross-attention, self-attention and FFN, each with a norm after it.

    Args:
        cross_attn (MaskedCrossAttention | HighResolutionCrossAttention):
            the cross-attention of this block.
        embed_dims (int): C.
        num_heads (int): heads of the self-attention; must divide C.
        feedforward_channels (int): hidden channels of the FFN.
    """

    def __init__(
        self,
        cross_attn: MaskedCrossAttention | HighResolutionCrossAttention,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
    ) -> None:
        super().__init__()
        self.cross_attn = cross_attn
        self.cross_norm = nn.LayerNorm(embed_dims)
        self.self_attn = MultiheadAttention(embed_dims, num_heads)
        self.self_norm = nn.LayerNorm(embed_dims)
        self.ffn = make_ffn(embed_dims, feedforward_channels)
        self.ffn_norm = nn.LayerNorm(embed_dims)

    def forward(
        self,
        query: Tensor,
        cross_pos: Tensor,
        self_pos: Tensor,
        memory: TokenMemory | WindowMemory,
        guide: Tensor,
        need_focus: bool = True,
    ) -> tuple[Tensor, Tensor | WindowFocus | None]:
        """Returns the updated queries and where the block looked.

        Args:
            query (Tensor): shape (B, Q, C).
            cross_pos (Tensor): positional query of the cross-attention,
                shape (B, Q, C).
            self_pos (Tensor): positional query of the self-attention, shape
                (B, Q, C).
            memory (TokenMemory | WindowMemory): what the block looks at.
            guide (Tensor): what tells the cross-attention where to look: the
                blocked pixels of each query, or the importance of windows.
            need_focus (bool): also return where the block looked.

        Returns:
            tuple[Tensor, Tensor | WindowFocus | None]: queries, shape
            (B, Q, C), and the attention (B, Q, L), or windows and attention.
        """
        attended, focus = self.cross_attn(
            query + cross_pos, memory, guide, need_focus
        )
        query = self.cross_norm(query + attended)
        with_pos = query + self_pos
        attended, _ = self.self_attn(with_pos, with_pos, query)
        query = self.self_norm(query + attended)
        return self.ffn_norm(query + self.ffn(query)), focus


class SameLayer(nn.Module):
    """Runs a layer that another place owns.

    Its parameters are listed there alone, once: a checkpoint holds them once,
    averages and optimizers take them once, and names of later blocks stay.

    Args:
        layer (nn.Module): a :class:`DFPQDecoderLayer`.
    """

    layer: nn.Module

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, 'layer', layer)  # not as a submodule

    @property
    def cross_attn(self) -> Any:
        """The cross-attention of the layer."""
        return self.layer.cross_attn

    def forward(
        self, *inputs: Any
    ) -> tuple[Tensor, Tensor | WindowFocus | None]:
        """Returns what the layer returns."""
        return self.layer(*inputs)
