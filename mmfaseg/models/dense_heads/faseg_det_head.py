"""FASeg for instance and panoptic segmentation with MMDetection.

Shapes: B batch size, Q queries, K classes, n masks, H x W the padded input.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from mmfaseg.registry import MODELS
from mmfaseg.utils.mask2former_arguments import DET_HEAD, check_train_cfg
from mmfaseg.utils.misplaced_arguments import reject_misplaced

from ..mask_classification_head import MaskClassificationHead
from ..task_modules import MaskTargets, targets_from_instances

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BaseInstanceMasks


@MODELS.register_module()
class FASegDetHead(MaskClassificationHead):
    """Panoptic head of FASeg for MMDetection's detectors.

    Use it as ``panoptic_head`` of mmdet's ``Mask2Former`` and ``MaskFormer``
    detectors, whose fusion head converts the output of ``predict`` to
    instances or a panoptic map. Decoders and loss are the same as in
    :class:`FASegHead`: equal weights give equal logits.

    Crowd pixels are ignored in the loss and in matching if the loss has
    ``exclude_ignored=True``. If an image has more targets than queries, the
    loss uses only the matched targets.

    The arguments are those of :class:`FASegHead`, without ``align_corners``,
    except for the following.

    Args:
        num_things_classes (int): number of thing classes, which come first.
        num_stuff_classes (int): number of stuff classes; 0 for instance
            segmentation.
        train_cfg (dict, optional): ``train_cfg`` of the detector, passed by
            mmdet; must be empty. Mask2Former's settings belong in ``loss``.
        test_cfg (dict, optional): ``test_cfg`` of the detector, passed by
            mmdet for the fusion head; only ``max_per_image`` is checked here.

    Raises:
        TypeError: if ``num_queries`` or the number of classes is not an
            integer, or ``in_channels`` is not a sequence.
        ValueError: if there is no thing class, ``train_cfg`` is not empty, or
            ``max_per_image`` exceeds the number of queries times classes.
    """

    @reject_misplaced(DET_HEAD)
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
        check_train_cfg(train_cfg, type(self).__name__)
        if num_things_classes < 1 or num_stuff_classes < 0:
            raise ValueError(
                f'num_things_classes={num_things_classes} must be at least 1 '
                f'and num_stuff_classes={num_stuff_classes} at least 0; for '
                'stuff classes only, use mmfaseg.FASegHead'
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

    def loss(
        self, x: Sequence[Tensor], batch_data_samples: Sequence
    ) -> dict[str, Tensor]:
        """Returns the losses of all predictions, in evaluation mode the last.

        Args:
            x (Sequence[Tensor]): backbone stages with stride 4, 8, 16, 32.
            batch_data_samples (Sequence[DetDataSample]): samples with
                ``gt_instances``, ``gt_sem_seg`` if there are stuff classes,
                and optional ``ignored_instances`` (crowds).

        Raises:
            ValueError: if the instances have no masks, or there are stuff
                classes and no ``gt_sem_seg``.
        """
        targets = [self._targets(sample) for sample in batch_data_samples]
        return self._compute_loss(x, targets)

    def predict(
        self, x: Sequence[Tensor], batch_data_samples: Sequence
    ) -> tuple[Tensor, Tensor]:
        """Returns the input of the fusion head.

        Args:
            x (Sequence[Tensor]): backbone stages with stride 4, 8, 16, 32.
            batch_data_samples (Sequence[DetDataSample]): samples with
                ``batch_input_shape``, (H, W).

        Returns:
            tuple[Tensor, Tensor]: class logits, (B, Q, K + 1); mask logits,
            (B, Q, H, W).
        """
        output = self.decode(x)
        size = batch_data_samples[0].metainfo['batch_input_shape']
        masks = F.interpolate(output.mask_preds[-1], size, mode='bilinear')
        return output.cls_scores[-1], masks

    def _targets(self, sample: 'DetDataSample') -> MaskTargets:
        """Returns the targets of one image."""
        instances = sample.gt_instances
        if 'masks' not in instances:
            raise ValueError(
                'gt_instances of an image has no masks: load them with '
                'LoadAnnotations(with_mask=True)'
            )
        size = tuple(sample.metainfo['batch_input_shape'])
        device = instances.labels.device
        crowds = None
        if 'ignored_instances' in sample:
            crowds = sample.ignored_instances.get('masks')
        return targets_from_instances(
            instances.labels,
            _as_tensor(instances.masks, size, device),
            _as_tensor(crowds, size, device),
            self._label_map(sample, size),
            self.num_things_classes,
            self.num_classes,
            self.ignore_index,
        )

    def _label_map(
        self, sample: 'DetDataSample', size: tuple[int, int]
    ) -> Tensor | None:
        """Returns the label map, (H, W), or None if there is no stuff."""
        if not self.num_stuff_classes:
            return None
        if 'gt_sem_seg' not in sample:
            raise ValueError(
                f'num_stuff_classes={self.num_stuff_classes}, but an image '
                'has no gt_sem_seg: load it with '
                'LoadPanopticAnnotations(with_seg=True), or set '
                'num_stuff_classes=0'
            )
        label_map = sample.gt_sem_seg.sem_seg.squeeze(0)
        return _pad(label_map, size, self.ignore_index)


def _as_tensor(
    masks: 'BaseInstanceMasks | None',
    size: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """Returns mmdet's masks as a tensor, bool, (n, H, W)."""
    if masks is None or not len(masks):
        return torch.zeros(0, *size, dtype=torch.bool, device=device)
    return _pad(masks.to_tensor(torch.bool, device), size, False)


def _pad(maps: Tensor, size: tuple[int, int], value: float) -> Tensor:
    """Pads maps at the bottom and right to the size of the padded input.

    mmdet pads instance masks, pads label maps only with ``pad_seg=True``, and
    does not pad crowd masks.
    """
    below, beside = size[0] - maps.size(-2), size[1] - maps.size(-1)
    return F.pad(maps, (0, beside, 0, below), value=value)


def _check_test_cfg(test_cfg: dict, limit: int) -> None:
    """Raises ValueError if ``max_per_image`` exceeds the limit."""
    max_per_image = test_cfg.get('max_per_image', 100)
    if test_cfg.get('instance_on', False) and max_per_image > limit:
        raise ValueError(
            f'test_cfg.max_per_image={max_per_image} exceeds num_queries '
            f'times the number of classes, {limit}: decrease it, or increase '
            'num_queries'
        )
