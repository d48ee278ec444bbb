"""Dynamic focus-aware positional queries, DFPQ (FASeg, section 3.2).

Shapes: B batch size, Q queries, C embed_dims, L = H_l * W_l pixels of a level.
"""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from typing_extensions import override

from mmfaseg.registry import MODELS

from .feature_level import DecoderState, FeatureLevel

INIT_POOLS = ('background', 'foreground', 'learned')


class PositionalQuery(BaseModule):
    """Base class of positional queries; uses a learned embedding per query.

    The positional query is added to the queries of the cross-attention, and
    to queries and keys of the self-attention. A subclass computes it for the
    first layer in :meth:`initial` and for the following ones in
    :meth:`update`.

    Args:
        embed_dims (int): number of channels, C.

    Attributes:
        uses_query_embed (bool): whether the decoder learns an embedding per
            query; otherwise ``state.query_embed`` is zero.
        needs_attention (bool): whether :meth:`update` uses the attention.
    """

    uses_query_embed: bool = True
    needs_attention: bool = False

    def __init__(self, embed_dims: int) -> None:
        super().__init__()

    def initial(self, state: DecoderState, level: FeatureLevel) -> Tensor:
        """Returns the positional query of the first layer.

        Args:
            state (DecoderState): has the prediction of the initial queries.
            level (FeatureLevel): the stride-32 level.

        Returns:
            Tensor: shape (B, Q, C).
        """
        return state.query_embed

    def update(
        self,
        state: DecoderState,
        level: FeatureLevel,
        attention: Tensor | None,
    ) -> Tensor:
        """Returns the positional query for the layers after this one.

        Args:
            state (DecoderState): has the prediction of this layer.
            level (FeatureLevel): the level that this layer attended to.
            attention (Tensor | None): head-averaged cross-attention of this
                layer, differentiable, shape (B, Q, L); None unless
                ``needs_attention``.

        Returns:
            Tensor: shape (B, Q, C).
        """
        return state.query_pos


@MODELS.register_module()
class DynamicFocusAwareQuery(PositionalQuery):
    """Positional queries computed from the attention of the previous layer.

    The positional query is computed as::

        query_pos = h(A K_p + query_embed)

    where A is the head-averaged cross-attention of a layer, K_p the positional
    encoding of the level it attended to, ``query_embed`` the learned
    positional query, and h an MLP shared by all layers.

    The first layer has no previous attention. For it, ``init_pool`` selects
    the pixels over which K_p of stride 32 is averaged.

    Args:
        embed_dims (int): number of channels, C.
        init_pool (str): ``'background'``, pixels outside the initial mask of
            each query (probability below 0.5), as in the released weights;
            ``'foreground'``, pixels inside it, as in the text of the paper;
            or ``'learned'``, which computes h(query_embed). The mean over no
            pixels is zero. No gradient flows through the masks.

    Raises:
        ValueError: if ``init_pool`` is invalid.
    """

    needs_attention = True

    def __init__(self, embed_dims: int, init_pool: str = 'background') -> None:
        super().__init__(embed_dims)
        if init_pool not in INIT_POOLS:
            raise ValueError(
                f'init_pool must be one of {INIT_POOLS}, got {init_pool!r}'
            )
        self.init_pool = init_pool
        self.mlp = make_mlp(embed_dims)

    @override
    def initial(self, state: DecoderState, level: FeatureLevel) -> Tensor:
        if self.init_pool == 'learned':
            return self.mlp(self.embedding(state, level))
        mask = level.mask_probability(state.mask_embed).flatten(2)
        pool = mask < 0.5 if self.init_pool == 'background' else mask >= 0.5
        # half precision would lose the 1e-6, which an empty pool needs
        dtype = level.position.dtype
        weights = pool.to(torch.promote_types(dtype, torch.float32))
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
        return self._focus(state, level, weights.to(dtype))

    @override
    def update(
        self,
        state: DecoderState,
        level: FeatureLevel,
        attention: Tensor | None,
    ) -> Tensor:
        assert attention is not None
        return self._focus(state, level, attention)

    def embedding(self, state: DecoderState, level: FeatureLevel) -> Tensor:
        """Returns the embedding that is added to A K_p, shape (B, Q, C)."""
        return state.query_embed

    def _focus(
        self, state: DecoderState, level: FeatureLevel, attention: Tensor
    ) -> Tensor:
        """Returns h(A K_p + query_embed)."""
        position = level.position.flatten(2).transpose(1, 2)  # (B, L, C)
        return self.mlp(attention @ position + self.embedding(state, level))


def check_query_pos(
    part: PositionalQuery, query_pos: Tensor, query: Tensor
) -> Tensor:
    """Returns a positional query, (B, Q, C), after checking its shape.

    Raises:
        ValueError: if it is not a tensor with the shape of the queries; the
            message names the class of ``part``.
    """
    shape = getattr(query_pos, 'shape', None)
    if shape != query.shape:
        found = type(query_pos).__name__ if shape is None else tuple(shape)
        raise ValueError(
            f'{type(part).__name__} must return positional queries with the '
            f'shape {tuple(query.shape)}, got {found}'
        )
    return query_pos


def make_mlp(embed_dims: int) -> nn.Sequential:
    """Returns the MLP h of the paper, with C input and output channels."""
    return nn.Sequential(
        nn.Linear(embed_dims, embed_dims),
        nn.ReLU(),
        nn.Linear(embed_dims, embed_dims),
    )
