"""Exported part of a segmentor and its graph.

Shapes:
    B: batch size.
    K: number of classes.
    C: number of channels of the image, 3 for RGB.
    H, W: height and width of the image, multiples of 32.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..models import FASegHead
from ..models.layers.mask_merge import merge_scores_plain
from ..ops import use_backend

STRIDE = 32
MAX_BATCH = 256
MAX_SIDE = 512  # times 32 pixels
EXAMPLE = (2, 128, 160)  # batch, height and width, all different


class ExportedNetwork(nn.Module):
    """Computes class scores from the pixels of images.

    Args:
        model (nn.Module): Segmentor with a :class:`FASegHead`; its backbone
            and head are shared, not copied.

    Raises:
        TypeError: If the model has another head or a neck.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        head = model.decode_head
        if not isinstance(head, FASegHead):
            raise TypeError(
                f'{type(head).__name__} cannot be exported: use a model with '
                'a FASegHead'
            )
        if getattr(model, 'with_neck', False):
            raise TypeError('a model with a neck cannot be exported')
        self.backbone = model.backbone
        self.head = head
        preprocessor = model.data_preprocessor
        for name in ('mean', 'std'):
            self.register_buffer(
                name, getattr(preprocessor, name).float().view(1, -1, 1, 1)
            )
        self.eval()

    mean: Tensor
    std: Tensor

    @property
    def in_channels(self) -> int:
        """Number of channels of the image."""
        return self.mean.shape[1]

    @torch.no_grad()
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores and labels.

        Args:
            image (Tensor): float32, 0 to 255, in the channel order used in
                training (RGB in all configs of this package), shape
                (B, C, H, W).

        Returns:
            tuple[Tensor, Tensor]: Class scores, float32, shape (B, K, H, W),
            and the best class, int64, shape (B, H, W).
        """
        feats = self.backbone((image - self.mean) / self.std)
        output = self.head.decode(feats)
        classes = output.cls_scores[-1].softmax(-1)[..., :-1]
        masks = output.mask_preds.pixels(-1)
        height, width = image.shape[2:]
        scores = merge_scores_plain(classes, masks, (height, width))
        return scores, scores.argmax(1)


def export_program(network: ExportedNetwork) -> ExportedProgram:
    """Returns a graph for any batch size and any size in multiples of 32.

    The operators of mmfaseg are exported as their reference implementations,
    so that the graph runs without this package.

    Args:
        network (ExportedNetwork): On the CPU.
    """
    batch = Dim('batch', min=1, max=MAX_BATCH)
    height = Dim('height', min=1, max=MAX_SIDE)
    width = Dim('width', min=1, max=MAX_SIDE)
    sizes = {0: batch, 2: STRIDE * height, 3: STRIDE * width}
    example = 255 * torch.rand(EXAMPLE[0], network.in_channels, *EXAMPLE[1:])
    with use_backend('reference'), torch.no_grad():
        return torch.export.export(
            network,
            (example,),
            dynamic_shapes=(sizes,),
            strict=False,
        )
