"""Prediction of the class and the mask of each query.

Shapes: B batch size, D predictions (of the initial queries and of each layer),
Q queries, C embed_dims, M mask_channels, K classes, H x W the map of the mask
features, at stride 4 or resized.
"""

from dataclasses import dataclass

from torch import Tensor, nn


def multiply_masks(embeds: Tensor, features: Tensor) -> Tensor:
    """Returns the mask logits (B, Q, H, W) of mask embeddings (B, Q, M)."""
    return (embeds @ features.flatten(2)).unflatten(2, features.shape[2:])


@dataclass
class MaskPredictions:
    """Mask logits of D predictions, computed on access.

    Item i has the logits of prediction i, shape (B, Q, H, W). The loss uses
    the attributes below to compute only the masks of matched queries.

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
        """Returns all logits, (D, B, Q, H, W), from one matrix product."""
        depth, _, queries, _ = self.embeds.shape
        rows = self.embeds.transpose(0, 1).flatten(1, 2)  # (B, D * Q, M)
        masks = multiply_masks(rows, self.features)
        return masks.unflatten(1, (depth, queries)).transpose(0, 1)


@dataclass
class DecoderOutput:
    """Predictions of the initial queries and of every layer.

    Attributes:
        cls_scores (list[Tensor]): class logits, each (B, Q, K + 1); the last
            class is "no object".
        mask_preds (MaskPredictions): mask logits, each (B, Q, H, W),
            computed on access.
    """

    cls_scores: list[Tensor]
    mask_preds: MaskPredictions

    def last(self) -> 'DecoderOutput':
        """Returns only the prediction of the last layer."""
        masks = self.mask_preds
        masks = MaskPredictions(masks.embeds[-1:], masks.features)
        return DecoderOutput(self.cls_scores[-1:], masks)


class MaskPredictor(nn.Module):
    """LayerNorm followed by a linear classifier and a 3-layer mask MLP.

    Args:
        embed_dims (int): number of channels, C.
        num_classes (int): number of classes, K, without "no object".
        mask_channels (int): channels of the mask features, M.
    """

    def __init__(
        self, embed_dims: int, num_classes: int, mask_channels: int
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dims)
        self.class_embed = nn.Linear(embed_dims, num_classes + 1)
        self.mask_embed = nn.Sequential(
            nn.Linear(embed_dims, embed_dims),
            nn.ReLU(),
            nn.Linear(embed_dims, embed_dims),
            nn.ReLU(),
            nn.Linear(embed_dims, mask_channels),
        )

    def classify(self, query: Tensor) -> Tensor:
        """Returns class logits, "no object" last, shape (..., Q, K + 1)."""
        return self.class_embed(self.norm(query))

    def embed(self, query: Tensor) -> Tensor:
        """Returns mask embeddings, shape (..., Q, M).

        Mask logits are their product with the mask features.
        """
        return self.mask_embed(self.norm(query))
