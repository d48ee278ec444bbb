"""Cross-attention of a decoder layer: the interface, and masked attention.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    L: number of pixels of the level, H_l * W_l.
    K: number of chosen windows.
"""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from mmfaseg.registry import MODELS

from .attention import MultiheadAttention
from .feature_level import DecoderState, FeatureLevel


class CrossAttention(nn.Module):
    """Base class of the cross-attention between queries and one level.

    A subclass implements :meth:`forward` and declares what it needs in class
    or instance attributes, which the decoder reads once, when it is built.
    The constructor gets ``embed_dims`` and ``num_heads`` from the layer.

    Args:
        embed_dims (int): C.
        num_heads (int): number of heads; must divide C.

    Attributes:
        needs_tokens (bool): reads ``level.key`` and ``level.value``.
        attention_level (int | None): reads ``state.coarse_attention``, the
            attention of the latest layer on this level, 0, 1 or 2.
        updates_query_pos (bool): its attention covers the whole level; the
            positional query is updated after it.
        window_size (int | None): stride-4 pixels per window side, if
            :meth:`select_windows` returns windows.
        attn (MultiheadAttention | None): the projections. A subclass with
            projections of its own sets it to None; the focus explorer then
            shows no positional preference.
    """

    needs_tokens: bool = True
    attention_level: int | None = None
    updates_query_pos: bool = False
    window_size: int | None = None

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.attn: Any = MultiheadAttention(embed_dims, num_heads)

    def select_query_pos(self, state: DecoderState) -> Tensor:
        """Returns the positional query to add to the queries, (B, Q, C)."""
        return state.query_pos

    def importance(
        self, state: DecoderState, level: FeatureLevel
    ) -> Tensor | None:
        """Returns what windows are chosen by, for figures; None if nothing.

        Returns:
            Tensor | None: shape (B, H_0, W_0), or (B, Q, H_0, W_0) with a
            choice per query.
        """
        return None

    def select_windows(
        self, state: DecoderState, level: FeatureLevel
    ) -> Tensor | None:
        """Returns the windows that are read, None for the whole level.

        Returns:
            Tensor | None: most important first, int64, shape (B, K), or
            (B, Q, K) with a choice per query; row-major indices into
            ``level.window_grid``.
        """
        return None

    def forward(
        self,
        query: Tensor,
        state: DecoderState,
        level: FeatureLevel,
        need_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the attended values and, on request, the attention.

        Args:
            query (Tensor): without positional query, shape (B, Q, C).
            state (DecoderState): result of the layers so far.
            level (FeatureLevel): the level to attend to.
            need_attention (bool): also return the attention.

        Returns:
            tuple[Tensor, Tensor | None]:
            - output: shape (B, Q, C).
            - attention: averaged over heads, zero for pixels that were not
              read, shape (B, Q, L), or None.
        """
        raise NotImplementedError


@MODELS.register_module()
class MaskedCrossAttention(CrossAttention):
    """Attends to the pixels inside the current mask of each query.

    Cheng et al., *Mask2Former*, CVPR 2022, section 3.2.1.

    Args:
        embed_dims (int): C.
        num_heads (int): number of heads; must divide C.
        mask_threshold (float): a pixel with a lower mask probability is
            blocked.

    Raises:
        ValueError: if ``mask_threshold`` is outside [0, 1).
    """

    updates_query_pos = True

    def __init__(
        self, embed_dims: int, num_heads: int, mask_threshold: float = 0.15
    ) -> None:
        super().__init__(embed_dims, num_heads)
        if not 0 <= mask_threshold < 1:
            raise ValueError(
                f'mask_threshold must be in [0, 1), got {mask_threshold}'
            )
        self.mask_threshold = mask_threshold

    @override
    def forward(
        self,
        query: Tensor,
        state: DecoderState,
        level: FeatureLevel,
        need_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        query = query + self.select_query_pos(state)
        blocked = self.blocked_pixels(state, level)
        return self.attn(
            query, level.key, level.value, blocked, need_attention
        )

    @torch.no_grad()
    def blocked_pixels(
        self, state: DecoderState, level: FeatureLevel
    ) -> Tensor:
        """Returns where each query must not attend; bool, (B, Q, L).

        A query with all pixels blocked attends to all of them.
        """
        probability = level.mask_probability(state.mask_embed).flatten(2)
        blocked = probability < self.mask_threshold
        return blocked & ~blocked.all(-1, keepdim=True)


def check_attention(
    attention: Tensor | None, query: Tensor, level: FeatureLevel
) -> Tensor:
    """Returns the attention that a layer was asked for, (B, Q, L).

    Raises:
        ValueError: if the layer returned none, or one of another shape.
    """
    height, width = level.shape
    shape = (query.size(0), query.size(1), height * width)
    found = None if attention is None else tuple(attention.shape)
    if attention is None or found != shape:
        raise ValueError(
            f'a layer on level {level.index} was called with need_attention='
            f'True and must return its attention with the shape {shape}, got '
            f'{found}'
        )
    return attention
