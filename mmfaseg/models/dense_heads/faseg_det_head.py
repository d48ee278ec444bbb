"""FASeg in MMDetection's interface: instances and panoptic segmentation.

Shapes:
    B: batch size.
    Q: number of queries.
    K: number of classes, things and stuff.
    H, W: height and width of the padded input.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from torch import Tensor

from mmfaseg.registry import MODELS

from ..mask_classification_head import MaskClassificationHead
from ..task_modules import Segments, segments_from_objects

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BaseInstanceMasks


@MODELS.register_module()
class FASegDetHead(MaskClassificationHead):
    """The decoders and the loss of :class:`FASegHead` for objects.

    It is the ``panoptic_head`` of mmdet's ``Mask2Former`` and ``MaskFormer``
    detectors; their fusion head makes instances, or a panoptic map, of what
    ``predict`` returns. With equal weights it computes the logits of the
    semantic head.

    Pixels of crowds count neither in the loss nor in the matching, if the
    loss has ``exclude_ignored``. Of a picture with more objects than queries
    those count that the queries meet at the least cost.

    Args:
        in_channels (Sequence[int]): see the parent, as for all that is not
            told here.
        num_things_classes (int): classes of things, which come first.
        num_stuff_classes (int): classes of stuff; 0 for instances alone.
        feat_channels (int): see the parent.
        num_queries (int): Q.
        pixel_decoder (dict): see the parent.
        transformer_decoder (dict): see the parent; ``box_aware=True`` tells
            it the boxes of its masks.
        loss (dict): see the parent.
        ignore_index (int): label of pixels that belong to no class.
        train_cfg (dict, optional): not used; mmdet passes it.
        test_cfg (dict, optional): of the fusion head; only checked here.
        init_cfg (dict, optional): see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: if there is no class of things, or ``max_per_image`` asks
            for more instances than queries and classes can give.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_things_classes: int,
        num_stuff_classes: int,
        feat_channels: int,
        num_queries: int,
        pixel_decoder: dict,
        transformer_decoder: dict,
        loss: dict,
        ignore_index: int = 255,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if num_things_classes < 1 or num_stuff_classes < 0:
            raise ValueError(
                f'num_things_classes={num_things_classes} must be at least 1 '
                f'and num_stuff_classes={num_stuff_classes} not negative; '
                'mmfaseg.FASegHead is for stuff alone'
            )
        num_classes = num_things_classes + num_stuff_classes
        _check_test_cfg(test_cfg or {}, num_queries * num_classes)
        super().__init__(
            in_channels,
            num_classes,
            feat_channels,
            num_queries,
            pixel_decoder,
            transformer_decoder,
            loss,
            ignore_index,
            init_cfg,
        )
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        self._has_warned = False

    def forward(
        self, x: Sequence[Tensor], batch_data_samples: Sequence | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Returns :meth:`predictions`.

        Args:
            x (Sequence[Tensor]): backbone stages.
            batch_data_samples (Sequence, optional): not used; mmdet passes
                them.
        """
        return self.predictions(x)

    def loss(
        self, x: Sequence[Tensor], batch_data_samples: Sequence
    ) -> dict[str, Tensor]:
        """Returns the losses of all predictions.

        Args:
            x (Sequence[Tensor]): backbone stages.
            batch_data_samples (Sequence[DetDataSample]): with
                ``gt_instances``, with ``gt_sem_seg`` if there is stuff, and
                with crowds in ``ignored_instances``.

        Raises:
            ValueError: if there are classes of stuff and no ``gt_sem_seg``.
        """
        segments = [self._segments(sample) for sample in batch_data_samples]
        self._warn_of_too_many(max(len(x.labels) for x in segments))
        output = self.decode(x)
        return self.loss_module(output.cls_scores, output.mask_preds, segments)

    def predict(
        self, x: Sequence[Tensor], batch_data_samples: Sequence
    ) -> tuple[Tensor, Tensor]:
        """Returns what the fusion head merges.

        Args:
            x (Sequence[Tensor]): backbone stages.
            batch_data_samples (Sequence[DetDataSample]): with
                ``batch_input_shape``, (H, W).

        Returns:
            tuple[Tensor, Tensor]: class logits, (B, Q, K + 1); mask logits,
            (B, Q, H, W).
        """
        output = self.decode(x)
        masks = F.interpolate(
            output.mask_preds[-1],
            batch_data_samples[0].metainfo['batch_input_shape'],
            mode='bilinear',
            align_corners=False,
        )
        return output.cls_scores[-1], masks

    def _segments(self, sample: 'DetDataSample') -> Segments:
        """Returns the truth of one picture."""
        objects = sample.gt_instances
        if 'masks' not in objects:
            raise ValueError(
                'a picture comes without masks of its objects: load them with '
                'LoadAnnotations(with_mask=True)'
            )
        size = tuple(sample.metainfo['batch_input_shape'])
        device = objects.labels.device
        crowds = None
        if 'ignored_instances' in sample:
            crowds = sample.ignored_instances.get('masks')
        return segments_from_objects(
            objects.labels,
            _pad(_as_tensor(objects.masks, size, device), size, False),
            _pad(_as_tensor(crowds, size, device), size, False),
            self._label_map(sample, size),
            self.num_things_classes,
            self.num_classes,
            self.ignore_index,
        )

    def _label_map(
        self, sample: 'DetDataSample', size: tuple[int, int]
    ) -> Tensor | None:
        """Returns where stuff is, (H, W), None if there is no class of it."""
        if not self.num_stuff_classes:
            return None
        if 'gt_sem_seg' not in sample:
            raise ValueError(
                f'num_stuff_classes={self.num_stuff_classes}, but a picture '
                'comes without gt_sem_seg: load it with '
                'LoadPanopticAnnotations(with_seg=True), or set '
                'num_stuff_classes=0'
            )
        label_map = sample.gt_sem_seg.sem_seg.squeeze(0)
        return _pad(label_map, size, self.ignore_index)

    def _warn_of_too_many(self, count: int) -> None:
        """Says once that there are more segments than queries."""
        if count <= self.num_queries or self._has_warned:
            return
        self._has_warned = True
        MMLogger.get_current_instance().warning(
            f'a picture has {count} segments, and the head {self.num_queries} '
            'queries: those that fit worst are not learnt from. Raise '
            'panoptic_head.num_queries if that happens often.'
        )


def _as_tensor(
    masks: 'BaseInstanceMasks | None',
    size: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """Returns mmdet's masks, bool, shape (n, any height, any width)."""
    if masks is None or not len(masks):
        return torch.zeros(0, *size, dtype=torch.bool, device=device)
    return masks.to_tensor(torch.bool, device)


def _pad(maps: Tensor, size: tuple[int, int], value: float) -> Tensor:
    """Returns maps (..., any height, any width) of the padded input.

    mmdet pads objects, label maps only if told to, and crowds never.
    """
    below, beside = size[0] - maps.size(-2), size[1] - maps.size(-1)
    return F.pad(maps, (0, beside, 0, below), value=value)


def _check_test_cfg(test_cfg: dict, most: int) -> None:
    """Refuses to look for more instances than there can be."""
    asked = test_cfg.get('max_per_image', 100)
    if test_cfg.get('instance_on', False) and asked > most:
        raise ValueError(
            f'test_cfg.max_per_image={asked}, but queries times classes are '
            f'{most}: lower it, or raise num_queries'
        )
