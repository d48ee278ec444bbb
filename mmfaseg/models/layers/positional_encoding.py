"""Positional encodings K_p of the feature maps."""

from torch import Tensor, nn


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
