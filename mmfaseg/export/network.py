"""The part of a segmentor that is exported.

Shapes:
    B: batch size.
    K: number of classes.
    H, W: height and width of the picture, multiples of 32.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..models import FASegHead
from ..models.layers.mask_merge import merge_scores_plain


class ExportedNetwork(nn.Module):
    """From the pixels of pictures to the scores of classes.

    Args:
        model (nn.Module): a segmentor with a :class:`FASegHead`; its backbone
            and head are taken over, not copied.

    Raises:
        TypeError: if the head is another one, or there is a neck.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        head = model.decode_head
        if not isinstance(head, FASegHead):
            raise TypeError(
                f'{type(head).__name__} cannot be exported: only the head of '
                'mmfaseg can'
            )
        if getattr(model, 'with_neck', False):
            raise TypeError('a model with a neck cannot be exported')
        self.backbone = model.backbone
        self.head = head
        preprocessor = model.data_preprocessor
        for name in ('mean', 'std'):
            self.register_buffer(
                name, getattr(preprocessor, name).float().view(1, 3, 1, 1)
            )
        self.eval()

    mean: Tensor
    std: Tensor

    @torch.no_grad()
    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores and labels.

        Args:
            picture (Tensor): float32, 0 to 255, in the order of the colours
                that the network learnt (RGB in all our configs), shape
                (B, 3, H, W).

        Returns:
            tuple[Tensor, Tensor]: scores of all classes, float32, shape
            (B, K, H, W); the best class, int64, shape (B, H, W).
        """
        feats = self.backbone((picture - self.mean) / self.std)
        output = self.head.decode(feats)
        classes = output.cls_scores[-1].softmax(-1)[..., :-1]
        masks = output.mask_preds.pixels(-1)
        height, width = picture.shape[2:]
        scores = merge_scores_plain(classes, masks, (height, width))
        return scores, scores.argmax(1)
