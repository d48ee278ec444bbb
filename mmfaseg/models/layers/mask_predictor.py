"""Classes and masks of the queries, shared by all predictions.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    K: number of classes.
    H_3, W_3: the stride-4 map.
"""

from torch import Tensor, nn


class MaskPredictor(nn.Module):
    """LayerNorm, then a linear classifier and a mask embedding (MLP of 3).

    Args:
        embed_dims (int): C.
        num_classes (int): K; one more class, the last, says "no object".
        mask_channels (int): channels of the mask features.
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

    def segment(self, query: Tensor, mask_features: Tensor) -> Tensor:
        """Returns mask logits, shape (B, Q, H_3, W_3).

        Args:
            query (Tensor): shape (B, Q, C).
            mask_features (Tensor): shape (B, mask_channels, H_3, W_3).
        """
        masks = self.mask_embed(self.norm(query)) @ mask_features.flatten(2)
        return masks.unflatten(2, mask_features.shape[2:])
