"""Positional encodings K_p of the feature maps.

Shapes: B batch size, C embed_dims, H x W the map.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from typing_extensions import override

from mmfaseg.registry import MODELS

from .build_part import build_part, find_class

ARGUMENT = 'positional_encoding'


class PositionalEncoding(BaseModule):
    """Base class of the positional encoding of one level.

    Attributes:
        needs_feature (bool): class attribute; whether the encoding depends on
            the values of the feature map or only on its size.
    """

    needs_feature: bool = False

    def forward(self, feature: Tensor) -> Tensor:
        """Returns K_p, shape (B, C, H, W).

        Args:
            feature (Tensor): the projected feature map, shape (B, C, H, W).
                Unless ``needs_feature``, only its size and dtype are valid;
                at stride 4 it may have another number of channels.
        """
        raise NotImplementedError


@MODELS.register_module()
class ConditionalPositionalEncoding(PositionalEncoding):
    """Depthwise 3x3 convolution of the projected feature map.

    The encoding depends on the image content and, through zero padding, on
    the distance to the border (FASeg, section 3.2; Chu et al., *Conditional
    Positional Encodings for Vision Transformers*, ICLR 2023).

    Args:
        embed_dims (int): number of channels, C.
    """

    needs_feature = True

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            embed_dims, embed_dims, 3, padding=1, groups=embed_dims
        )

    @override
    def forward(self, feature: Tensor) -> Tensor:
        return self.conv(feature)


@MODELS.register_module()
class SinePositionalEncoding(PositionalEncoding):
    """Sine encoding of the row and column of each pixel.

    Half of the channels encode the row and half the column, normalized by the
    size of the map, as in DETR (Carion et al., ECCV 2020) and Mask2Former.

    Args:
        embed_dims (int): number of channels, C; a multiple of 4.

    Raises:
        ValueError: if C is not a multiple of 4.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        if embed_dims % 4:
            raise ValueError(
                f'embed_dims={embed_dims} must be a multiple of 4, for sine '
                'and cosine of row and column'
            )
        self.embed_dims = embed_dims

    @override
    def forward(self, feature: Tensor) -> Tensor:
        batch, _, height, width = feature.shape
        dtype = torch.promote_types(feature.dtype, torch.float32)
        axes = []
        for length in (height, width):
            numbers = torch.arange(
                1, length + 1, device=feature.device, dtype=dtype
            )
            turns = numbers / (length + 1e-6)  # as in DETR
            axes.append(sine_embedding(turns, self.embed_dims // 2))
        rows = axes[0][:, None].expand(-1, width, -1)
        columns = axes[1][None].expand(height, -1, -1)
        encoding = torch.cat([rows, columns], -1).to(feature.dtype)
        return encoding.permute(2, 0, 1).expand(batch, -1, -1, -1)


@MODELS.register_module()
class LearnedPositionalEncoding(PositionalEncoding):
    """Learned encoding, resized to the size of the feature map.

    Args:
        embed_dims (int): number of channels, C.
        size (int): height and width of the learned map.
    """

    def __init__(self, embed_dims: int, size: int = 16) -> None:
        super().__init__()
        weight = 0.02 * torch.randn(1, embed_dims, size, size)
        self.learned_pos_embed = nn.Parameter(weight)

    @override
    def forward(self, feature: Tensor) -> Tensor:
        encoding = F.interpolate(
            self.learned_pos_embed, feature.shape[2:], mode='bicubic'
        )
        return encoding.to(feature.dtype).expand(len(feature), -1, -1, -1)


class MMDetPositionalEncoding(PositionalEncoding):
    """Adapter for encodings with MMDetection's interface, ``forward(mask)``.

    Args:
        encoding (nn.Module): such as mmdet's ``SinePositionalEncoding``.
        embed_dims (int): number of channels of the encoding, C.
    """

    def __init__(self, encoding: nn.Module, embed_dims: int) -> None:
        super().__init__()
        self.encoding = encoding
        self.embed_dims = embed_dims

    @override
    def forward(self, feature: Tensor) -> Tensor:
        """Returns the encoding of a map without padding, (B, C, H, W).

        Raises:
            TypeError: if the encoding does not have mmdet's interface.
            ValueError: if the encoding does not have C channels.
        """
        batch, _, height, width = feature.shape
        no_padding = feature.new_zeros(batch, height, width, dtype=torch.bool)
        try:
            encoding = self.encoding(no_padding)
        except torch.OutOfMemoryError:  # a RuntimeError
            raise
        except (TypeError, RuntimeError) as error:
            raise TypeError(
                f'{type(self.encoding).__name__} does not derive from '
                "mmfaseg's PositionalEncoding, and forward(mask) of mmdet's "
                f'encodings failed: {error}'
            ) from error
        if encoding.size(1) != self.embed_dims:
            raise ValueError(
                f'{type(self.encoding).__name__} returns {encoding.size(1)} '
                f'channels, but embed_dims={self.embed_dims}: set '
                f'num_feats={self.embed_dims // 2}'
            )
        return encoding.to(feature.dtype)


def build_positional_encoding(
    cfg: dict[str, Any], embed_dims: int
) -> nn.Module:
    """Builds a positional encoding of this package or of MMDetection."""
    if issubclass(find_class(ARGUMENT, cfg), PositionalEncoding):
        return build_part(
            ARGUMENT, cfg, PositionalEncoding, embed_dims=embed_dims
        )
    return MMDetPositionalEncoding(MODELS.build(cfg), embed_dims)


def encoding_needs_feature(cfg: dict[str, Any]) -> bool:
    """Returns whether a positional encoding depends on feature values."""
    return getattr(find_class(ARGUMENT, cfg), 'needs_feature', False)


def sine_embedding(positions: Tensor, channels: int) -> Tensor:
    r"""Returns alternating sines and cosines of decreasing frequency.

    Args:
        positions (Tensor): in periods of the highest frequency, any shape.
        channels (int): number of channels, even.

    Returns:
        Tensor: shape (\*positions.shape, channels).
    """
    steps = torch.arange(0, channels, 2, device=positions.device)
    wavelengths = 10_000 ** (steps.to(positions.dtype) / channels)
    angles = positions[..., None] * 2 * math.pi / wavelengths
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)
