"""Positional queries: what all of them answer, and FASeg's answer.

There are two questions: what a query carries into the first block, and what
it carries on after a block that reads pixels of its mask.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    L: number of pixels of a level, H * W.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .mask_boxes import box_waves, check_box_channels

POOLS = ('background', 'foreground', 'learned')


class PositionalQuery(nn.Module):
    """What the decoder asks of a positional query.

    Attributes:
        needs_attention (bool): whether ``update`` reads the attention.
    """

    needs_attention = False

    def initial(
        self, static: Tensor, position: Tensor, mask_probability: Tensor
    ) -> Tensor:
        """Returns the positional queries of the first block.

        Args:
            static (Tensor): learned part, shape (B, Q, C).
            position (Tensor): K_p of stride 32, shape (B, C, H, W).
            mask_probability (Tensor): initial masks at that size, 0 to 1,
                shape (B, Q, H, W). Nothing flows back through them.

        Returns:
            Tensor: shape (B, Q, C).
        """
        raise NotImplementedError

    def update(
        self,
        static: Tensor,
        position: Tensor,
        attention: Tensor | None,
        read_masks: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """Returns the positional queries of the blocks after this one.

        Args:
            static (Tensor): learned part, shape (B, Q, C).
            position (Tensor): K_p of the block's level, shape (B, C, H, W).
            attention (Tensor | None): head-averaged cross-attention of the
                block, shape (B, Q, L); None unless ``needs_attention``.
            read_masks (Callable, optional): returns the masks that the block
                predicts, at the size of its level, as in ``initial``.

        Returns:
            Tensor: shape (B, Q, C).
        """
        raise NotImplementedError


class DynamicFocusAwareQuery(PositionalQuery):
    """Positional queries made from where the previous block looked.

    FASeg, section 3.2. With A the head-averaged cross-attention of a block,
    K_p the positional encoding of the level it looked at, ``static`` the
    learned part and h an MLP shared by all blocks::

        query_pos = h(A · K_p + static)

    The first block has no attention before it. There K_p of stride 32 is
    averaged over the pixels that the initial mask of a query leaves out
    (``background``, which the released weights need) or takes in
    (``foreground``, which is how the text of the paper reads), or nothing is
    added to the learned part (``learned``).

    Args:
        embed_dims (int): C.
        initial_pool (str): ``'background'``, ``'foreground'`` or
            ``'learned'``.

    Raises:
        ValueError: if ``initial_pool`` is none of them.
    """

    needs_attention = True

    def __init__(
        self, embed_dims: int, initial_pool: str = 'background'
    ) -> None:
        super().__init__()
        if initial_pool not in POOLS:
            raise ValueError(
                f'initial_pool must be one of {POOLS}, got {initial_pool!r}'
            )
        self.initial_pool = initial_pool
        self.mlp = make_mlp(embed_dims)

    def initial(
        self, static: Tensor, position: Tensor, mask_probability: Tensor
    ) -> Tensor:
        """See the parent."""
        if self.initial_pool == 'learned':
            return self.mlp(static)
        outside = mask_probability.detach().flatten(2) < 0.5
        pool = outside if self.initial_pool == 'background' else ~outside
        # counts in half precision would lose the 1e-6 of an empty pool
        weights = pool.to(torch.promote_types(position.dtype, torch.float32))
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
        return self._focus(static, position, weights.to(position.dtype))

    def update(
        self,
        static: Tensor,
        position: Tensor,
        attention: Tensor | None,
        read_masks: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """See the parent; the gradient flows through ``attention``."""
        assert attention is not None
        return self._focus(static, position, attention)

    def _focus(
        self, static: Tensor, position: Tensor, attention: Tensor
    ) -> Tensor:
        focus = attention @ position.flatten(2).transpose(1, 2)
        return self.mlp(focus + static)


class BoxAwareFocusQuery(DynamicFocusAwareQuery):
    """Positional queries that also know the box around each query's mask.

    What the paper wishes for instance segmentation. With W a matrix that
    starts as zeros, so that a network begins as it would without it::

        query_pos = h(A · K_p + static + W · waves(x, y, width, height))

    The box is that of the mask which the block predicts, or of the initial
    mask: mean and deviation of the places of its pixels. Nothing flows back
    through the masks.

    Args:
        embed_dims (int): C, a multiple of 8.
        initial_pool (str): see the parent.

    Raises:
        ValueError: if C is no multiple of 8, or ``initial_pool`` is unknown.
    """

    def __init__(
        self, embed_dims: int, initial_pool: str = 'background'
    ) -> None:
        super().__init__(embed_dims, initial_pool)
        check_box_channels(embed_dims)
        self.box_embed = nn.Linear(embed_dims, embed_dims, bias=False)
        nn.init.zeros_(self.box_embed.weight)

    def initial(
        self, static: Tensor, position: Tensor, mask_probability: Tensor
    ) -> Tensor:
        """See the parent."""
        placed = self._add_boxes(static, mask_probability)
        return super().initial(placed, position, mask_probability)

    def update(
        self,
        static: Tensor,
        position: Tensor,
        attention: Tensor | None,
        read_masks: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """See the parent."""
        assert read_masks is not None
        placed = self._add_boxes(static, read_masks())
        return super().update(placed, position, attention)

    def _add_boxes(self, static: Tensor, mask_probability: Tensor) -> Tensor:
        waves = box_waves(mask_probability, static.size(2))
        return static + self.box_embed(waves.to(static.dtype))


def make_mlp(embed_dims: int) -> nn.Sequential:
    """Returns h of the paper, from C to C channels."""
    return nn.Sequential(
        nn.Linear(embed_dims, embed_dims),
        nn.ReLU(inplace=True),
        nn.Linear(embed_dims, embed_dims),
    )
