"""Prediction of the class and the mask of each query.

Shapes:
    B: batch size.
    D: number of predictions, one per layer and one before.
    Q: number of queries.
    C: embed_dims.
    M: mask_channels.
    K: number of classes.
    H, W: the map of the mask features, stride 4 or a smaller copy of it.
"""

from dataclasses import dataclass

from torch import Tensor, nn


def multiply_masks(embeds: Tensor, features: Tensor) -> Tensor:
    """Returns mask logits.

    Args:
        embeds (Tensor): mask embeddings, shape (B, Q, M).
        features (Tensor): mask features, shape (B, M, H, W).

    Returns:
        Tensor: shape (B, Q, H, W).
    """
    return (embeds @ features.flatten(2)).unflatten(2, features.shape[2:])


@dataclass
class MaskPredictions:
    """Mask logits of D predictions, computed when they are read.

    An item is the logits of one prediction, (B, Q, H, W). The loss computes
    only the masks of matched queries from the factors below.

    Attributes:
        embeds (Tensor): mask embeddings, shape (D, B, Q, M).
        features (Tensor): mask features, shape (B, M, H, W).
    """

    embeds: Tensor
    features: Tensor

    def __len__(self) -> int:
        return self.embeds.size(0)

    def __getitem__(self, index: int) -> Tensor:
        """Returns the logits of one prediction."""
        return multiply_masks(self.embeds[index], self.features)

    def pixels(self, index: int) -> Tensor:
        """Returns the logits of one prediction, queries last, (B, H, W, Q)."""
        pixels = self.features.permute(0, 2, 3, 1).flatten(1, 2)
        logits = pixels @ self.embeds[index].transpose(1, 2)
        return logits.unflatten(1, self.features.shape[2:])

    def stack(self) -> Tensor:
        """Returns all logits, (D, B, Q, H, W), computed in one product."""
        depth, _, queries, _ = self.embeds.shape
        rows = self.embeds.transpose(0, 1).flatten(1, 2)  # (B, D * Q, M)
        masks = multiply_masks(rows, self.features)
        return masks.unflatten(1, (depth, queries)).transpose(0, 1)


class MaskPredictor(nn.Module):
    """LayerNorm, then a linear classifier and a mask embedding (3-layer MLP).

    Args:
        embed_dims (int): C.
        num_classes (int): K, without "no object", which is the last class.
        mask_channels (int): M.
    """

    def __init__(
        self, embed_dims: int, num_classes: int, mask_channels: int
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dims)
        self.class_embed = nn.Linear(embed_dims, num_classes + 1)
        self.mask_embed = nn.Sequential(
            nn.Linear(embed_dims, embed_dims),
            nn.ReLU(inplace=True),
            nn.Linear(embed_dims, embed_dims),
            nn.ReLU(inplace=True),
            nn.Linear(embed_dims, mask_channels),
        )

    def classify(self, query: Tensor) -> Tensor:
        """Returns class logits, shape (..., Q, K + 1)."""
        return self.class_embed(self.norm(query))

    def embed(self, query: Tensor) -> Tensor:
        """Returns mask embeddings, shape (..., Q, M).

        Their product with the mask features is the mask logits.
        """
        return self.mask_embed(self.norm(query))
