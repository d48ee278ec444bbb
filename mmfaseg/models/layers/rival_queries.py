"""The rivals of FASeg's positional queries, and the choice among all.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    L: number of pixels of a level, H * W.
"""

from collections.abc import Callable

from torch import Tensor

from .dfpq import (
    BoxAwareFocusQuery,
    DynamicFocusAwareQuery,
    PositionalQuery,
    make_mlp,
)
from .mask_boxes import box_waves, check_box_channels


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
        check_box_channels(embed_dims)
        self.mlp = make_mlp(embed_dims)

    def initial(
        self, static: Tensor, position: Tensor, mask_probability: Tensor
    ) -> Tensor:
        """See the parent."""
        waves = box_waves(mask_probability, static.size(2))
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


def make_positional_query(
    kind: str, embed_dims: int, initial_pool: str, box_aware: bool = False
) -> PositionalQuery:
    """Returns a positional query.

    Args:
        kind (str): ``'dfpq'``, ``'parameterized'``, ``'anchor'`` or
            ``'none'``.
        embed_dims (int): C.
        initial_pool (str): of ``'dfpq'``, not read by the others.
        box_aware (bool): a ``'dfpq'`` that also sees the box of its mask.

    Raises:
        ValueError: if there is no such kind, or it cannot be box-aware.
    """
    if box_aware and kind != 'dfpq':
        raise ValueError(
            f"box_aware=True needs positional_query='dfpq', got {kind!r}; "
            "'anchor' is made of boxes alone"
        )
    if kind == 'dfpq':
        query = BoxAwareFocusQuery if box_aware else DynamicFocusAwareQuery
        return query(embed_dims, initial_pool)
    if kind == 'anchor':
        return AnchorQuery(embed_dims)
    others = {'parameterized': ParameterizedQuery, 'none': NoPositionalQuery}
    if kind not in others:
        raise ValueError(
            'positional_query must be one of '
            f'{("dfpq", "anchor", *others)}, got {kind!r}'
        )
    return others[kind]()
