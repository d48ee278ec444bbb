"""Segmentor for mask classification."""

from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from mmfaseg.registry import MODELS

from ..decode_heads.label_maps import predict_label_map
from .sliding_window_scores import SlidingWindowScores


@MODELS.register_module()
class MaskEncoderDecoder(EncoderDecoder):
    """mmseg's ``EncoderDecoder`` with channels-last and low-memory inference.

    With ``test_cfg.return_logits=False``, the results contain
    ``pred_sem_seg`` but not ``seg_logits``, which is sufficient for metrics
    and visualization. Mode "whole" then allocates no tensor of all classes at
    all pixels. Mode "slide" keeps scores only for the rows of one window at
    full image width, so its memory does not grow with the image height.

    Args:
        *args (Any): arguments of ``EncoderDecoder``.
        channels_last (bool): run the backbone in the channels-last memory
            format, which speeds up convolutions on current CPUs and, in half
            precision, on GPUs.
        **kwargs (Any): keyword arguments of ``EncoderDecoder``.
    """

    def __init__(
        self, *args: Any, channels_last: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.channels_last = channels_last

    def extract_feat(self, inputs: Tensor) -> list[Tensor]:
        """Returns the backbone stages of images, shape (B, 3, H, W)."""
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return super().extract_feat(inputs)

    def predict(
        self,
        inputs: Tensor,
        data_samples: list[SegDataSample] | None = None,
    ) -> list[SegDataSample]:
        """Returns one data sample with the prediction for each image.

        The inputs have the shape (B, 3, H, W), the samples meta information.

        Raises:
            TypeError: if ``return_logits=False`` and the head cannot predict
                label maps.
            ValueError: if ``return_logits=False`` and the head has
                ``align_corners=True`` or ``out_channels=1``, or the windows
                do not cover the image.
        """
        if self.test_cfg.get('return_logits', True):
            return super().predict(inputs, data_samples)
        self._check_head()
        if data_samples is None:
            size = tuple(inputs.shape[2:])
            meta = dict(img_shape=size, pad_shape=size, ori_shape=size)
            data_samples = [SegDataSample(metainfo=dict(meta)) for _ in inputs]
        metas = [sample.metainfo for sample in data_samples]
        label_maps = self._predict_labels(inputs, metas)
        for sample, labels in zip(data_samples, label_maps, strict=True):
            sample.pred_sem_seg = PixelData(data=labels[None])
        return data_samples

    def _check_head(self) -> None:
        """Checks that the head supports ``return_logits=False``."""
        head = self.decode_head
        is_slide = self.test_cfg.get('mode', 'whole') == 'slide'
        if not is_slide and not hasattr(head, 'predict_labels'):
            raise TypeError(
                f'test_cfg.return_logits=False in mode "whole": '
                f'{type(head).__name__} has no predict_labels; '
                'set test_cfg.return_logits=True'
            )
        if head.out_channels == 1:
            raise ValueError(
                f'test_cfg.return_logits=False: {type(head).__name__} has '
                'out_channels=1, which needs a threshold; set '
                'test_cfg.return_logits=True'
            )
        if head.align_corners:
            raise ValueError(
                'test_cfg.return_logits=False requires '
                'decode_head.align_corners=False'
            )

    @torch.no_grad()  # labels have no gradient
    def _predict_labels(
        self, inputs: Tensor, metas: list[dict]
    ) -> list[Tensor]:
        if self.test_cfg.get('mode', 'whole') == 'slide':
            return [
                predict_label_map(
                    SlidingWindowScores(self, image[None], meta), meta
                )
                for image, meta in zip(inputs, metas, strict=True)
            ]
        return self.decode_head.predict_labels(
            self.extract_feat(inputs), metas, self.test_cfg
        )
