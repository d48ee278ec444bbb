"""Alternatives to DFPQ for ablations.

Shapes: B batch size, Q queries, C embed_dims, H x W the map of the masks.
"""

import torch
from torch import Tensor, nn
from typing_extensions import override

from mmfaseg.registry import MODELS

from .dfpq import DynamicFocusAwareQuery, PositionalQuery, make_mlp
from .feature_level import DecoderState, FeatureLevel
from .positional_encoding import sine_embedding


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
        return self.mlp(embed_boxes(state, level) + state.query_embed)

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
    def embedding(self, state: DecoderState, level: FeatureLevel) -> Tensor:
        return state.query_embed + self.box_embed(embed_boxes(state, level))


def check_box_channels(embed_dims: int) -> None:
    """Raises ValueError if a box embedding cannot have this many channels."""
    if embed_dims % 8:
        raise ValueError(
            f'embed_dims={embed_dims} must be a multiple of 8, for sine and '
            'cosine of x, y, width and height'
        )


def embed_boxes(state: DecoderState, level: FeatureLevel) -> Tensor:
    """Returns the sine embedding of the boxes around the latest masks.

    Its shape, (B, Q, C), and dtype are those of ``state.query_embed``.
    """
    like = state.query_embed
    boxes = mask_boxes(level.mask_probability(state.mask_embed))
    return sine_embedding(boxes, like.size(2) // 4).flatten(2).to(like.dtype)


@torch.no_grad()
def mask_boxes(probability: Tensor) -> Tensor:
    """Returns x, y, width and height of masks relative to the image.

    Width and height are sqrt(12) standard deviations, those of a filled
    rectangle. An empty mask has the center of the image and size 0.

    Args:
        probability (Tensor): masks, shape (B, Q, H, W).

    Returns:
        Tensor: float32 or float64, shape (B, Q, 4).
    """
    mass = probability.to(torch.promote_types(probability.dtype, torch.float))
    total = mass.sum((2, 3))
    mass = mass / total.clamp(min=1e-12)[..., None, None]
    centers, sizes = [], []
    for axis in (3, 2):
        marginal = mass.sum(5 - axis)  # (B, Q, W), then (B, Q, H)
        length = marginal.size(2)
        coords = torch.arange(length, device=mass.device, dtype=mass.dtype)
        coords = (coords + 0.5) / length
        center = (marginal * coords).sum(2)
        center = torch.where(total > 1e-12, center, 0.5)
        square = (marginal * (coords - center[..., None]).square()).sum(2)
        # variance within a pixel, which is 1 / length wide
        square = square + marginal.sum(2) / (12 * length**2)
        centers.append(center)
        sizes.append((12 * square).sqrt())
    return torch.stack(centers + sizes, -1)
