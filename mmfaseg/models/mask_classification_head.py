"""Base class of the semantic and the panoptic head.

Shapes: B batch size, Q queries, K classes, h x w the masks (stride 4).
"""

from collections.abc import Sequence

from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..utils.check_count import check_count
from .layers import DecoderOutput
from .layers.build_part import build_part
from .task_modules import MaskTargets


class MaskClassificationHead(BaseModule):
    """Pixel decoder, transformer decoder and loss.

    See :class:`FASegHead` for the arguments. The pixel decoder has three
    levels if the transformer decoder has ``high_res_attention=None``,
    otherwise four, unless ``num_levels`` is set.
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
        num_levels = 3 if high_res_attention is None else 4
        self.pixel_decoder = build_part(
            'pixel_decoder',
            {'num_levels': num_levels, **pixel_decoder},
            nn.Module,
            in_channels=self.in_channels,
            embed_dims=feat_channels,
        )
        self.transformer_decoder = build_part(
            'transformer_decoder',
            transformer_decoder,
            nn.Module,
            embed_dims=feat_channels,
            num_classes=num_classes,
            num_queries=num_queries,
        )
        self.loss_module = build_part(
            'loss', loss, nn.Module, num_classes=num_classes
        )
        self._has_warned = False

    def decode(self, feats: Sequence[Tensor]) -> DecoderOutput:
        """Returns the predictions of :meth:`forward`, masks on access."""
        output = self.transformer_decoder(*self.pixel_decoder(feats))
        return output if self.training else output.last()

    def forward(
        self,
        feats: Sequence[Tensor],
        batch_data_samples: Sequence | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Returns class logits (B, Q, K + 1) and mask logits (B, Q, h, w).

        Args:
            feats (Sequence[Tensor]): backbone stages, strides 4, 8, 16, 32.
            batch_data_samples (Sequence, optional): passed by mmdet, unused.

        Returns:
            tuple[list[Tensor], list[Tensor]]: all predictions in training
            mode, the last one in evaluation mode.
        """
        output = self.decode(feats)
        return output.cls_scores, list(output.mask_preds.stack().unbind(0))

    def _compute_loss(
        self, feats: Sequence[Tensor], targets: Sequence[MaskTargets]
    ) -> dict[str, Tensor]:
        """Returns the losses of the predictions of :meth:`decode`.

        Raises:
            TypeError: if a custom loss returns something else than losses.
        """
        self._warn_if_too_many(max(len(x.labels) for x in targets))
        output = self.decode(feats)
        losses = self.loss_module(
            output.cls_scores, output.mask_preds, targets
        )
        is_dict = isinstance(losses, dict)
        if not is_dict or not any('loss' in name for name in losses):
            found = list(losses) if is_dict else type(losses).__name__
            raise TypeError(
                f'{type(self.loss_module).__name__} must return a dict in '
                'which the names of the terms to minimize contain "loss", got '
                f'{found}'
            )
        return losses

    def _warn_if_too_many(self, count: int) -> None:
        """Warns once if an image has more targets than queries."""
        if count <= self.num_queries or self._has_warned:
            return
        self._has_warned = True
        MMLogger.get_current_instance().warning(
            f'an image has {count} targets, but the head has only '
            f'{self.num_queries} queries: unmatched targets are not learned. '
            'Increase num_queries of the head if this happens often.'
        )
