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
from ..utils.input_channels import input_channels
from .symbolic import symbolic_sizes

STRIDE = 32
MAX_BATCH = 256
MAX_SIDE = 512  # times 32 pixels
# batch, height, width: sizes differ, and Swin has several windows at stride 32
EXAMPLE = (2, 512, 928)


class ExportedNetwork(nn.Module):
    """Computes class scores from the pixels of images.

    Args:
        model (nn.Module): Segmentor with a :class:`FASegHead` and its ``cfg``,
            as returned by :func:`load_model`; its backbone, neck and head are
            shared, not copied.

    Raises:
        TypeError: If the model has another head.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        head = model.decode_head
        if not isinstance(head, FASegHead):
            raise TypeError(
                f'{type(head).__name__} cannot be exported: use a model with '
                'a FASegHead'
            )
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.head = head
        self.in_channels = input_channels(model.cfg.model)
        preprocessor = model.data_preprocessor
        # the preprocessor has neither with mean=None
        for name, default in (('mean', torch.zeros), ('std', torch.ones)):
            value = getattr(preprocessor, name, default(self.in_channels))
            self.register_buffer(name, value.float().view(1, -1, 1, 1))
        self.eval()

    mean: Tensor
    std: Tensor

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
        output = self.head.decode(self.neck(feats))
        classes = output.cls_scores[-1].softmax(-1)[..., :-1]
        masks = output.mask_preds.pixels(-1)
        height, width = image.shape[2:]
        scores = merge_scores_plain(classes, masks, (height, width))
        return scores, scores.argmax(1)


def export_program(
    network: ExportedNetwork, fixed: tuple[int, int, int] | None = None
) -> ExportedProgram:
    """Returns a graph for any batch size and any size in multiples of 32.

    The operators of mmfaseg are exported as their reference implementations,
    so that the graph runs without this package.

    Args:
        network (ExportedNetwork): On the CPU.
        fixed (tuple[int, int, int], optional): Batch, height and width of a
            graph for this size only, for backbones that compute with sizes.

    Raises:
        RuntimeError: If the network cannot be traced, or not for any size.
    """
    batch = Dim('batch', min=1, max=MAX_BATCH)
    height = Dim('height', min=1, max=MAX_SIDE)
    width = Dim('width', min=1, max=MAX_SIDE)
    sizes = {0: batch, 2: STRIDE * height, 3: STRIDE * width}
    number, *sides = EXAMPLE if fixed is None else fixed
    example = 255 * torch.rand(number, network.in_channels, *sides)
    try:
        with use_backend('reference'), symbolic_sizes(), torch.no_grad():
            return torch.export.export(
                network,
                (example,),
                dynamic_shapes=(sizes,) if fixed is None else None,
                strict=False,
            )
    except Exception as error:  # PyTorch raises many types
        name = type(network.backbone).__name__
        remedy = 'please report the config'
        if fixed is None:
            name += ' for any batch and image size'
            remedy = 'export it for one size (--fixed BxHxW)'
        summary = str(error).strip().partition('\n')[0]
        raise RuntimeError(
            f'PyTorch cannot trace a model with {name}: {remedy}. '
            f'{type(error).__name__}: {summary}'
        ) from error
