"""Positional encodings K_p of the feature maps: FASeg's and its rivals.

Shapes:
    B: batch size.
    C: embed_dims.
    H, W: the map.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEMPERATURE = 10_000


class ConditionalPositionalEncoding(nn.Module):
    """Makes positions from the picture: a depthwise 3x3 convolution.

    Zero padding lets the convolution see where the border is; the encoding
    follows the content of the map (FASeg, section 3.2; Chu et al.,
    *Conditional Positional Encodings for Vision Transformers*, ICLR 2023).

    Args:
        embed_dims (int): C.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            embed_dims, embed_dims, 3, padding=1, groups=embed_dims
        )

    def forward(self, feature: Tensor) -> Tensor:
        """Returns K_p of a projected feature map, shape (B, C, H, W)."""
        return self.conv(feature)


class SinePositionalEncoding(nn.Module):
    """Waves of row and column, the same for all pictures of a size.

    Half of the channels tell the row, half the column, as in DETR (Carion et
    al., ECCV 2020) and Mask2Former: the last row and column are at a full
    turn of the fastest wave.

    Args:
        embed_dims (int): C, a multiple of 4.

    Raises:
        ValueError: if C is no multiple of 4.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        if embed_dims % 4:
            raise ValueError(
                f'embed_dims={embed_dims} must be a multiple of 4: sine and '
                'cosine of row and column'
            )
        self.embed_dims = embed_dims

    def forward(self, feature: Tensor) -> Tensor:
        """Returns K_p, shape (B, C, H, W); of the feature only the size."""
        batch, _, height, width = feature.shape
        dtype = torch.promote_types(feature.dtype, torch.float32)
        axes = []
        for length in (height, width):
            numbers = torch.arange(
                1, length + 1, device=feature.device, dtype=dtype
            )
            turns = numbers / (length + 1e-6)  # 1e-6: as DETR has it
            axes.append(sine_embedding(turns, self.embed_dims // 2))
        rows = axes[0][:, None].expand(-1, width, -1)
        columns = axes[1][None].expand(height, -1, -1)
        encoding = torch.cat([rows, columns], -1).to(feature.dtype)
        return encoding.permute(2, 0, 1).expand(batch, -1, -1, -1)


class LearnedPositionalEncoding(nn.Module):
    """A learned map, resized to the size that is needed.

    Args:
        embed_dims (int): C.
        size (int): height and width of what is learned.
    """

    def __init__(self, embed_dims: int, size: int = 16) -> None:
        super().__init__()
        self.learned_pos_embed = nn.Parameter(
            torch.empty(1, embed_dims, size, size)
        )
        nn.init.normal_(self.learned_pos_embed, std=0.02)

    def forward(self, feature: Tensor) -> Tensor:
        """Returns K_p, shape (B, C, H, W); of the feature only the size."""
        encoding = F.interpolate(
            self.learned_pos_embed,
            feature.shape[2:],
            mode='bicubic',
            align_corners=False,
        )
        return encoding.to(feature.dtype).expand(len(feature), -1, -1, -1)


POSITIONAL_ENCODINGS: dict[str, type[nn.Module]] = {
    'conditional': ConditionalPositionalEncoding,
    'sine': SinePositionalEncoding,
    'learned': LearnedPositionalEncoding,
}


def make_positional_encoding(kind: str, embed_dims: int) -> nn.Module:
    """Returns the encoding of one level.

    Args:
        kind (str): ``'conditional'``, ``'sine'`` or ``'learned'``.
        embed_dims (int): C.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in POSITIONAL_ENCODINGS:
        raise ValueError(
            'positional_encoding must be one of '
            f'{tuple(POSITIONAL_ENCODINGS)}, got {kind!r}'
        )
    return POSITIONAL_ENCODINGS[kind](embed_dims)


def sine_embedding(turns: Tensor, channels: int) -> Tensor:
    """Returns sines and cosines of slower and slower waves, alternating.

    Args:
        turns (Tensor): numbers, of which 1 is a turn of the fastest wave, any
            shape.
        channels (int): how many numbers stand for each; even.

    Returns:
        Tensor: the shape of ``turns`` and ``channels``.
    """
    steps = torch.arange(0, channels, 2, device=turns.device)
    slower = TEMPERATURE ** (steps.to(turns.dtype) / channels)
    angles = turns[..., None] * 2 * math.pi / slower
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)
