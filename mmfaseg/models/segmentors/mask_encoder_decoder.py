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
    Heads with ``align_corners`` or with one output channel need the memory of
    all scores, as do, in mode "whole", heads without ``predict_labels`` and
    subclasses of :class:`FASegHead` that override ``predict`` alone.

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
        """Returns the outputs of the neck, or of the backbone without neck.

        Images have the shape (B, 3, H, W).
        """
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
            ValueError: if ``test_cfg.mode`` is invalid, or if
                ``return_logits=False`` and the windows do not cover the
                image.
        """
        mode = self.test_cfg.get('mode', 'whole')
        if mode not in ('whole', 'slide'):
            raise ValueError(
                f"test_cfg.mode={mode!r} must be 'whole' or 'slide'"
            )
        if self.test_cfg.get('return_logits', True):
            return super().predict(inputs, data_samples)
        if not self._supports_label_maps():
            samples = super().predict(inputs, data_samples)
            for sample in samples:
                del sample.seg_logits
            return samples
        if data_samples is None:
            size = tuple(inputs.shape[2:])
            meta = dict(img_shape=size, pad_shape=size, ori_shape=size)
            data_samples = [SegDataSample(metainfo=dict(meta)) for _ in inputs]
        metas = [sample.metainfo for sample in data_samples]
        label_maps = self._predict_labels(inputs, metas)
        for sample, labels in zip(data_samples, label_maps, strict=True):
            sample.pred_sem_seg = PixelData(data=labels[None])
        return data_samples

    def _supports_label_maps(self) -> bool:
        """Returns whether label maps can be predicted without all scores."""
        head = self.decode_head
        is_slide = self.test_cfg.get('mode', 'whole') == 'slide'
        return (
            (is_slide or _has_matching_predict_labels(head))
            and head.out_channels > 1
            and not head.align_corners
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


def _has_matching_predict_labels(head: Any) -> bool:
    """Returns whether ``predict_labels`` of a head agrees with ``predict``.

    It does not if a subclass overrides ``predict`` alone.
    """
    for cls in type(head).__mro__:
        if 'predict' in vars(cls):
            return 'predict_labels' in vars(cls)
    return False
