"""Segmentor for mask classification: faster convolutions, bounded memory.

Shapes:
    K: number of classes.
    H, W: size of the padded input.
"""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from mmfaseg.registry import MODELS

from ..decode_heads.label_maps import label_map_of_picture

ROWS_AT_ONCE = 32  # of mean scores that a sliding test hands on


@MODELS.register_module()
class MaskEncoderDecoder(EncoderDecoder):
    """mmseg's ``EncoderDecoder`` with two more switches.

    With ``test_cfg.label_map_only=True`` the results hold ``pred_sem_seg``
    and no ``seg_logits``: all that metrics and pictures of labels read. A
    whole test then holds no tensor of K classes at all pixels, neither of the
    input nor of the original picture. A sliding test holds a few copies of K
    classes at the rows of one window, at the full width: that does not grow
    with the height, but is all pixels where the window is as high as the
    picture.

    Args:
        channels_last (bool): run the backbone in the channels-last memory
            format, in which convolutions are faster on current CPUs and, in
            half precision, on GPUs.
        others: as in the parent.
    """

    def __init__(
        self, *args: Any, channels_last: bool = True, **others: Any
    ) -> None:
        super().__init__(*args, **others)
        self.channels_last = channels_last

    def extract_feat(self, inputs: Tensor) -> list[Tensor]:
        """Returns the stages of the backbone.

        Args:
            inputs (Tensor): shape (B, 3, H, W).
        """
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return super().extract_feat(inputs)

    def predict(
        self,
        inputs: Tensor,
        data_samples: list[SegDataSample] | None = None,
    ) -> list[SegDataSample]:
        """Returns a sample with the prediction for every picture.

        Args:
            inputs (Tensor): shape (B, 3, H, W).
            data_samples (list[SegDataSample], optional): their meta data.

        Raises:
            ValueError: if ``label_map_only`` meets ``align_corners=True`` of
                the head, or windows that do not touch.
        """
        if not self.test_cfg.get('label_map_only', False):
            return super().predict(inputs, data_samples)
        if self.decode_head.align_corners:
            raise ValueError(
                'label_map_only needs decode_head.align_corners=False'
            )
        if data_samples is None:
            size = tuple(inputs.shape[2:])
            meta = dict(img_shape=size, pad_shape=size, ori_shape=size)
            data_samples = [SegDataSample(metainfo=dict(meta)) for _ in inputs]
        metas = [sample.metainfo for sample in data_samples]
        maps = self._label_maps(inputs, metas)
        for sample, labels in zip(data_samples, maps, strict=True):
            sample.pred_sem_seg = PixelData(data=labels[None])
        return data_samples

    @torch.no_grad()  # labels have no gradient: windows need no graph
    def _label_maps(self, inputs: Tensor, metas: list[dict]) -> list[Tensor]:
        if self.test_cfg.get('mode', 'whole') == 'slide':
            return [
                self._slide_label_map(x[None], meta)
                for x, meta in zip(inputs, metas, strict=True)
            ]
        return self.decode_head.predict_labels(
            self.extract_feat(inputs), metas, self.test_cfg
        )

    def _slide_label_map(self, picture: Tensor, meta: dict) -> Tensor:
        """Returns the label map, (H, W), of one picture, (1, 3, H, W)."""
        rows = _Rows(self._slide_rows(picture, meta))
        size = picture.size(2), picture.size(3)
        return label_map_of_picture(
            rows.read, size, meta, self.num_classes, picture.device
        )

    def _slide_rows(self, picture: Tensor, meta: dict) -> Iterator[Tensor]:
        """Yields mean scores of all rows, a few at a time, (r, W, K).

        A row is done when no window of those to come reaches it.
        """
        _, _, height, width = picture.shape
        tops, window_height = _starts(height, self.test_cfg, 0)
        lefts, window_width = _starts(width, self.test_cfg, 1)
        shape = window_height, width
        sums = picture.new_zeros(*shape, self.num_classes)
        counts = picture.new_zeros(*shape, 1)
        for top, after in zip(tops, [*tops[1:], height], strict=True):
            for left in lefts:
                columns = slice(left, left + window_width)
                window = picture[:, :, top : top + window_height, columns]
                metas = [meta | dict(img_shape=tuple(window.shape[2:]))]
                scores = self.encode_decode(window, metas)[0]
                sums[:, columns] += scores.permute(1, 2, 0)
                counts[:, columns] += 1
            done = min(after - top, window_height)
            for start in range(0, done, ROWS_AT_ONCE):
                rows = slice(start, min(start + ROWS_AT_ONCE, done))
                yield sums[rows] / counts[rows]
            for kept in (sums, counts):
                overlap = len(kept) - done
                kept[:overlap] = kept[done:].clone()
                kept[overlap:] = 0


def _starts(length: int, test_cfg: dict, axis: int) -> tuple[list[int], int]:
    """Returns where windows start along an axis, and their length there."""
    window, stride = test_cfg['crop_size'][axis], test_cfg['stride'][axis]
    if not 0 < stride <= window:
        raise ValueError(
            f'test_cfg.stride={tuple(test_cfg["stride"])} must be positive '
            f'and not exceed crop_size={tuple(test_cfg["crop_size"])}: '
            'otherwise pixels lie in no window'
        )
    window = min(window, length)
    count = -(-(length - window) // stride) + 1
    return [min(i * stride, length - window) for i in range(count)], window


class _Rows:
    """Reads rows of a stream; those before the latest read are dropped.

    Args:
        stream (Iterator[Tensor]): blocks of rows, shape (r, W, K).
    """

    def __init__(self, stream: Iterator[Tensor]) -> None:
        self._stream = stream
        self._held: Tensor | None = None
        self._start = 0

    def read(self, start: int, stop: int) -> Tensor:
        """Returns rows ``start`` to ``stop``; must not go back."""
        while self._held is None or self._start + len(self._held) < stop:
            kept = None
            if self._held is not None:
                # a few rows; the block goes before the next windows run
                kept = self._held[max(0, start - self._start) :].clone()
                self._start += len(self._held) - len(kept)
                self._held = None
            block = next(self._stream)
            self._held = block if kept is None else torch.cat([kept, block])
        return self._held[start - self._start : stop - self._start]
