"""Alternatives to DFPQ for ablations.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
"""

from torch import Tensor, nn
from typing_extensions import override

from mmfaseg.registry import MODELS

from .dfpq import DynamicFocusAwareQuery, PositionalQuery, make_mlp
from .feature_level import DecoderState, FeatureLevel
from .mask_boxes import box_embedding, check_box_channels


@MODELS.register_module()
class LearnedPositionalQuery(PositionalQuery):
    """Learned embedding used in all layers, as in Mask2Former.

    Args:
        embed_dims (int): number of channels, C.
    """


@MODELS.register_module()
class NoPositionalQuery(PositionalQuery):
    """Zero positional query in all layers.

    Args:
        embed_dims (int): number of channels, C.
    """

    uses_query_embed = False


@MODELS.register_module()
class AnchorPositionalQuery(PositionalQuery):
    """Positional queries from the box around the latest mask of each query.

    Similar to Conditional DETR (Meng et al., ICCV 2021) and DAB-DETR (Liu et
    al., ICLR 2022), whose layers refine anchor boxes. Here the box is computed
    from the predicted mask: mean and standard deviation of the pixel
    coordinates, weighted by the mask probability. The positional query is::

        query_pos = h(sine(x, y, width, height) + query_embed)

    where h is an MLP shared by all layers. No gradient flows through masks.

    Args:
        embed_dims (int): number of channels, C; a multiple of 8.

    Raises:
        ValueError: if C is not a multiple of 8.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__(embed_dims)
        check_box_channels(embed_dims)
        self.mlp = make_mlp(embed_dims)

    @override
    def initial(self, state: DecoderState, level: FeatureLevel) -> Tensor:
        boxes = embed_boxes(state, level)
        return self.mlp(boxes.to(state.query_embed.dtype) + state.query_embed)

    @override
    def update(
        self,
        state: DecoderState,
        level: FeatureLevel,
        attention: Tensor | None,
    ) -> Tensor:
        return self.initial(state, level)


@MODELS.register_module()
class BoxAwareFocusQuery(DynamicFocusAwareQuery):
    """DFPQ that also encodes the box around the latest mask of each query.

    The paper mentions this as future work for instance segmentation::

        query_pos = h(A K_p + query_embed + W sine(x, y, width, height))

    where W is a matrix initialized with zeros. The box is computed as in
    :class:`AnchorPositionalQuery`. No gradient flows through the masks.

    Args:
        embed_dims (int): number of channels, C; a multiple of 8.
        init_pool (str): ``'background'``, ``'foreground'`` or ``'learned'``.

    Raises:
        ValueError: if C is not a multiple of 8, or ``init_pool`` is unknown.
    """

    def __init__(self, embed_dims: int, init_pool: str = 'background') -> None:
        super().__init__(embed_dims, init_pool)
        check_box_channels(embed_dims)
        self.box_embed = nn.Linear(embed_dims, embed_dims, bias=False)
        nn.init.zeros_(self.box_embed.weight)

    @override
    def initial(self, state: DecoderState, level: FeatureLevel) -> Tensor:
        return super().initial(self._add_boxes(state, level), level)

    @override
    def update(
        self,
        state: DecoderState,
        level: FeatureLevel,
        attention: Tensor | None,
    ) -> Tensor:
        return super().update(self._add_boxes(state, level), level, attention)

    def _add_boxes(
        self, state: DecoderState, level: FeatureLevel
    ) -> DecoderState:
        boxes = embed_boxes(state, level).to(state.query_embed.dtype)
        query_embed = state.query_embed + self.box_embed(boxes)
        return state._replace(query_embed=query_embed)


def embed_boxes(state: DecoderState, level: FeatureLevel) -> Tensor:
    """Returns the sine embedding of the boxes around the latest masks.

    Returns:
        Tensor: float32 or float64, shape (B, Q, C).
    """
    masks = level.mask_probability(state.mask_embed)
    return box_embedding(masks, state.query_embed.size(2))
