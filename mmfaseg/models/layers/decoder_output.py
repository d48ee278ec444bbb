"""Output of the transformer decoder.

Shapes:
    B: batch size.
    Q: number of queries.
    K: number of classes.
    H_3, W_3: the stride-4 map.
"""

from dataclasses import dataclass

from torch import Tensor

from .mask_predictor import MaskPredictions


@dataclass
class DecoderOutput:
    """Predictions of the initial queries and of every layer.

    Attributes:
        cls_scores (list[Tensor]): class logits, each (B, Q, K + 1); the last
            class is "no object".
        mask_preds (MaskPredictions): mask logits, each (B, Q, H_3, W_3),
            computed on access.
    """

    cls_scores: list[Tensor]
    mask_preds: MaskPredictions

    def last(self) -> 'DecoderOutput':
        """Returns only the prediction of the last layer."""
        masks = self.mask_preds
        return DecoderOutput(
            self.cls_scores[-1:],
            MaskPredictions(masks.embeds[-1:], masks.features),
        )
