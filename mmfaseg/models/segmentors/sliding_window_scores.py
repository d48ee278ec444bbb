"""Sliding window inference in the memory of one row of windows.

Shapes: K classes, H x W the padded image.
"""

import torch
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor


class SlidingWindowScores:
    """Class scores of one image, averaged over overlapping windows.

    Windows are predicted when their rows are requested. Sums are kept only for
    the rows of one window, so memory does not grow with the image height. The
    interface is :class:`ScoreRows`.

    Args:
        segmentor (EncoderDecoder): segmentor whose ``test_cfg`` has
            ``crop_size`` and ``stride``.
        image (Tensor): shape (1, 3, H, W).
        meta (dict): meta information of the image.

    Raises:
        ValueError: if ``crop_size`` or ``stride`` is missing, or the stride
            is not positive or exceeds the window.
    """

    def __init__(
        self, segmentor: EncoderDecoder, image: Tensor, meta: dict
    ) -> None:
        height, width = image.shape[2:]
        cfg = segmentor.test_cfg
        self.size = height, width
        self.num_classes = segmentor.num_classes
        self.values_per_pixel = segmentor.num_classes
        self.device = image.device
        self._segmentor, self._image, self._meta = segmentor, image, meta
        tops, window_height = _window_starts(height, cfg, 0)
        self._lefts, self._window_width = _window_starts(width, cfg, 1)
        self._next_tops = [*tops, height]
        self._top = 0  # first row of the sums
        shape = window_height, width, segmentor.num_classes
        self._sums = image.new_zeros(shape)
        self._counts = image.new_zeros(*shape[:2], 1)

    def rows(self, start: int, stop: int) -> Tensor:
        """Returns the mean scores of rows ``start`` to ``stop - 1``.

        Rows must be requested from top to bottom, each at most once.
        """
        means = []
        while self._next_tops[0] < stop:
            top = self._next_tops.pop(0)
            # rows above it are complete, as later windows do not cover them
            means.append(self._means(start, top))
            start = max(start, top)
            self._run_windows(top)
        return torch.cat([*means, self._means(start, stop)])

    def _means(self, start: int, stop: int) -> Tensor:
        rows = slice(start - self._top, stop - self._top)
        return self._sums[rows] / self._counts[rows]

    def _run_windows(self, top: int) -> None:
        """Moves the sums down to ``top`` and adds the windows there."""
        if top > self._top:
            overlap = self._top + len(self._sums) - top
            for buffer in (self._sums, self._counts):
                buffer[:overlap] = buffer[top - self._top :].clone()
                buffer[overlap:] = 0
            self._top = top
        rows = slice(top, top + len(self._sums))
        for left in self._lefts:
            columns = slice(left, left + self._window_width)
            window = self._image[:, :, rows, columns]
            # mmseg's heads detect windows by the type torch.Size
            metas = [self._meta | dict(img_shape=window.shape[2:])]
            scores = self._segmentor.encode_decode(window, metas)[0]
            self._sums[:, columns] += scores.permute(1, 2, 0)
            self._counts[:, columns] += 1
            del scores  # before the next window runs


def _window_starts(
    length: int, test_cfg: dict, dim: int
) -> tuple[list[int], int]:
    """Returns where windows start along a dimension, and their length."""
    missing = [x for x in ('crop_size', 'stride') if not test_cfg.get(x)]
    if missing:
        raise ValueError(
            f'test_cfg has no {" and no ".join(missing)}, which mode "slide" '
            'requires'
        )
    window, stride = test_cfg['crop_size'][dim], test_cfg['stride'][dim]
    if not 0 < stride <= window:
        raise ValueError(
            f'test_cfg.stride={tuple(test_cfg["stride"])} must be positive '
            f'and not exceed crop_size={tuple(test_cfg["crop_size"])}: '
            'otherwise the windows do not cover the image'
        )
    window = min(window, length)
    count = -(-(length - window) // stride) + 1
    return [min(i * stride, length - window) for i in range(count)], window
