"""Interface of cross-attention in decoder layers, and masked attention.

Shapes: B batch size, Q queries, C embed_dims, L = H_l * W_l pixels of the
level, K selected windows.
"""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor
from typing_extensions import override

from mmfaseg.registry import MODELS

from .attention import MultiheadAttention
from .feature_level import DecoderState, FeatureLevel


class CrossAttention(BaseModule):
    """Base class of the cross-attention between queries and one level.

    A subclass overrides :meth:`blocked_pixels` to mask the level, or
    :meth:`forward`, and declares its requirements in class or instance
    attributes, which the decoder reads when it is built. The decoder layer
    passes ``embed_dims`` and ``num_heads``.

    Args:
        embed_dims (int): number of channels, C.
        num_heads (int): number of attention heads; must divide C.

    Attributes:
        needs_tokens (bool): whether ``level.key`` and ``value`` are used.
        coarse_level (int | None): level, 0, 1 or 2, whose latest attention
            it uses as ``state.coarse_attention``; None if it uses none.
        updates_query_pos (bool): whether the positional query is updated
            after the layer, which needs attention to the whole level.
        window_size (int | None): stride-4 pixels per window side, if
            :meth:`select_windows` returns windows.
        attn (MultiheadAttention | None): attention with its projections. None
            in a subclass with its own projections, for which the focus
            explorer shows no positional preference.
    """

    needs_tokens: bool = True
    coarse_level: int | None = None
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
        """Returns the importance of each window, for visualization.

        Returns:
            Tensor | None: shape (B, H_0, W_0), or (B, Q, H_0, W_0) if windows
            are selected per query; None without windows.
        """
        return None

    def select_windows(
        self, state: DecoderState, level: FeatureLevel
    ) -> Tensor | None:
        """Returns the windows to attend to, or None for the whole level.

        Returns:
            Tensor | None: row-major indices into ``level.window_grid``, most
            important first, int64, shape (B, K), or (B, Q, K) if windows are
            selected per query.
        """
        return None

    def blocked_pixels(
        self, state: DecoderState, level: FeatureLevel
    ) -> Tensor | None:
        """Returns the pixels that each query ignores, or None for none.

        Returns:
            Tensor | None: bool, shape (B, Q, L). No row may be all True.
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
            state (DecoderState): decoder state before this layer.
            level (FeatureLevel): the level to attend to.
            need_attention (bool): also return the attention.

        Returns:
            tuple[Tensor, Tensor | None]:
            - output: shape (B, Q, C).
            - attention: averaged over heads, zero at pixels outside the
              windows, shape (B, Q, L), or None.
        """
        query = query + self.select_query_pos(state)
        blocked = self.blocked_pixels(state, level)
        return self.attn(
            query, level.key, level.value, blocked, need_attention
        )


@MODELS.register_module()
class MaskedCrossAttention(CrossAttention):
    """Attends to the pixels inside the current mask of each query.

    Cheng et al., *Mask2Former*, CVPR 2022, section 3.2.1.

    Args:
        embed_dims (int): number of channels, C.
        num_heads (int): number of attention heads; must divide C.
        mask_threshold (float): pixels with a lower mask probability are
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
    @torch.no_grad()
    def blocked_pixels(
        self, state: DecoderState, level: FeatureLevel
    ) -> Tensor:
        """Returns the pixels that each query ignores, bool, (B, Q, L).

        A query whose pixels would all be blocked attends to all of them.
        """
        probability = level.mask_probability(state.mask_embed).flatten(2)
        blocked = probability < self.mask_threshold
        return blocked & ~blocked.all(-1, keepdim=True)


def check_attention(
    part: object, attention: Tensor | None, query: Tensor, level: FeatureLevel
) -> Tensor:
    """Returns the attention of a part, (B, Q, L), after checking its shape.

    Raises:
        ValueError: if the attention is None or has another shape; the message
            names the class of ``part``.
    """
    height, width = level.shape
    shape = (query.size(0), query.size(1), height * width)
    found = None if attention is None else tuple(attention.shape)
    if attention is None or found != shape:
        raise ValueError(
            f'{type(part).__name__}, on level {level.index}, was called with '
            'need_attention=True and must return its attention with the shape '
            f'{shape}, got {found}'
        )
    return attention
