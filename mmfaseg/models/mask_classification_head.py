"""Base class of the semantic and the panoptic head.

Shapes:
    B: batch size.
    Q: number of queries.
    K: number of classes.
    h, w: the map of the masks, stride 4.
"""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from mmfaseg.registry import MODELS

from .layers import DecoderOutput


class MaskClassificationHead(BaseModule):
    """Pixel decoder, transformer decoder and loss.

    Args:
        in_channels (Sequence[int]): channels of the backbone stages with
            stride 4, 8, 16, 32.
        num_classes (int): number of classes, K, without "no object".
        feat_channels (int): channels of both decoders.
        num_queries (int): number of queries, Q.
        pixel_decoder (dict): config of the pixel decoder, to which the head
            adds ``in_channels``, ``embed_dims`` and ``num_levels`` (3 if the
            transformer decoder has ``high_res_attention=None``, otherwise 4).
        transformer_decoder (dict): config of the transformer decoder, to
            which the head adds ``embed_dims``, ``num_classes`` and
            ``num_queries``.
        loss (dict): config of the loss, to which the head adds
            ``num_classes``.
        ignore_index (int): label of pixels that belong to no class.
        init_cfg (dict, optional): initialization config of
            :class:`mmengine.model.BaseModule`.

    Raises:
        TypeError: if ``num_classes`` or ``num_queries`` is not an integer, or
            ``in_channels`` is not a sequence.
        ValueError: if ``num_classes`` or ``num_queries`` is less than 1.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        feat_channels: int,
        num_queries: int,
        pixel_decoder: dict,
        transformer_decoder: dict,
        loss: dict,
        ignore_index: int = 255,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_count('num_classes', num_classes)
        check_count('num_queries', num_queries)
        if isinstance(in_channels, int):
            raise TypeError(
                f'in_channels={in_channels} must be a sequence: the channels '
                'of the backbone stages with strides 4, 8, 16 and 32'
            )
        self.in_channels = tuple(in_channels)
        self.num_classes = num_classes
        self.num_queries = num_queries
        self.ignore_index = ignore_index
        high_res_attention = transformer_decoder.get('high_res_attention')
        self.pixel_decoder = MODELS.build(
            dict(
                **pixel_decoder,
                in_channels=self.in_channels,
                embed_dims=feat_channels,
                num_levels=3 if high_res_attention is None else 4,
            )
        )
        self.transformer_decoder = MODELS.build(
            dict(
                **transformer_decoder,
                embed_dims=feat_channels,
                num_classes=num_classes,
                num_queries=num_queries,
            )
        )
        self.loss_module = MODELS.build(dict(**loss, num_classes=num_classes))

    def decode(self, feats: Sequence[Tensor]) -> DecoderOutput:
        """Returns predictions whose masks are computed on access.

        Args:
            feats (Sequence[Tensor]): backbone stages with stride 4, 8, 16,
                32.

        Returns:
            DecoderOutput: all predictions in training mode, the last one in
            evaluation mode.
        """
        output = self.transformer_decoder(*self.pixel_decoder(feats))
        return output if self.training else output.last()

    def predictions(
        self, feats: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Returns class logits (B, Q, K + 1) and mask logits (B, Q, h, w).

        Args:
            feats (Sequence[Tensor]): backbone stages with stride 4, 8, 16,
                32.

        Returns:
            tuple[list[Tensor], list[Tensor]]: all predictions in training
            mode, the last one in evaluation mode.
        """
        output = self.decode(feats)
        return output.cls_scores, list(output.mask_preds.stack().unbind(0))


def check_count(name: str, value: object) -> None:
    """Checks that an argument is a positive integer.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is less than 1.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f'{name}={value!r} must be an integer')
    if value < 1:
        raise ValueError(f'{name}={value} must be at least 1')
