"""Positional queries: FASeg's dynamic focus-aware ones and their rivals.

All of them answer the same two questions: what a query carries into the first
block, and what it carries on after a block that reads pixels of its mask.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    L: number of pixels of a level, H * W.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .positional_encoding import sine_embedding

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
        self.mlp = _make_mlp(embed_dims, embed_dims)

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
        return self.update(static, position, weights.to(position.dtype))

    def update(
        self,
        static: Tensor,
        position: Tensor,
        attention: Tensor | None,
        read_masks: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """See the parent; the gradient flows through ``attention``."""
        assert attention is not None
        focus = attention @ position.flatten(2).transpose(1, 2)
        return self.mlp(focus + static)


class ParameterizedQuery(PositionalQuery):
    """Mask2Former's: the learned part, for all pictures and blocks."""

    def initial(
        self, static: Tensor, position: Tensor, mask_probability: Tensor
    ) -> Tensor:
        """See the parent."""
        return static

    def update(
        self,
        static: Tensor,
        position: Tensor,
        attention: Tensor | None,
        read_masks: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """See the parent."""
        return static


class NoPositionalQuery(ParameterizedQuery):
    """None at all: ``static`` is zero, for the decoder learns none."""


class AnchorQuery(PositionalQuery):
    """Positional queries made from the box around each query's latest mask.

    In the manner of Conditional DETR (Meng et al., ICCV 2021) and DAB-DETR
    (Liu et al., ICLR 2022), whose anchors are boxes that each block moves;
    here the mask that a block predicts gives the box: mean and standard
    deviation of its pixels' places, weighted by their probabilities. With h
    an MLP shared by all blocks::

        query_pos = h(waves(x, y, width, height) + static)

    Nothing flows back through the masks.

    Args:
        embed_dims (int): C, a multiple of 8.

    Raises:
        ValueError: if C is no multiple of 8.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        if embed_dims % 8:
            raise ValueError(
                f'embed_dims={embed_dims} must be a multiple of 8: sine and '
                'cosine of x, y, width and height'
            )
        self.mlp = _make_mlp(embed_dims, embed_dims)

    def initial(
        self, static: Tensor, position: Tensor, mask_probability: Tensor
    ) -> Tensor:
        """See the parent."""
        boxes = mask_boxes(mask_probability)
        waves = sine_embedding(boxes, static.size(2) // 4).flatten(2)
        return self.mlp(waves.to(static.dtype) + static)

    def update(
        self,
        static: Tensor,
        position: Tensor,
        attention: Tensor | None,
        read_masks: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """See the parent."""
        assert read_masks is not None
        return self.initial(static, position, read_masks())


@torch.no_grad()
def mask_boxes(probability: Tensor) -> Tensor:
    """Returns centre and size of masks, parts of the picture.

    The size is that of a filled rectangle with the same standard deviations:
    sqrt(12) of them. A mask of zeros lies in the middle and has no size.

    Args:
        probability (Tensor): shape (B, Q, H, W).

    Returns:
        Tensor: x, y, width, height, float32 or float64, shape (B, Q, 4).
    """
    mass = probability.to(torch.promote_types(probability.dtype, torch.float))
    total = mass.sum((2, 3))
    mass = mass / total.clamp(min=1e-12)[..., None, None]
    centres, sizes = [], []
    for axis in (3, 2):
        along = mass.sum(5 - axis)  # (B, Q, W), then (B, Q, H)
        length = along.size(2)
        place = torch.arange(length, device=mass.device, dtype=mass.dtype)
        place = (place + 0.5) / length
        centre = (along * place).sum(2)
        centre = torch.where(total > 1e-12, centre, 0.5)
        square = (along * (place - centre[..., None]).square()).sum(2)
        # a pixel itself is 1 / length wide
        square = square + along.sum(2) / (12 * length**2)
        centres.append(centre)
        sizes.append((12 * square).sqrt())
    return torch.stack(centres + sizes, -1)


def make_positional_query(
    kind: str, embed_dims: int, initial_pool: str
) -> PositionalQuery:
    """Returns a positional query.

    Args:
        kind (str): ``'dfpq'``, ``'parameterized'``, ``'anchor'`` or
            ``'none'``.
        embed_dims (int): C.
        initial_pool (str): of ``'dfpq'``, not read by the others.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind == 'dfpq':
        return DynamicFocusAwareQuery(embed_dims, initial_pool)
    if kind == 'anchor':
        return AnchorQuery(embed_dims)
    others = {'parameterized': ParameterizedQuery, 'none': NoPositionalQuery}
    if kind not in others:
        raise ValueError(
            'positional_query must be one of '
            f'{("dfpq", "anchor", *others)}, got {kind!r}'
        )
    return others[kind]()


def _make_mlp(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_channels, out_channels),
        nn.ReLU(inplace=True),
        nn.Linear(out_channels, out_channels),
    )
