import pytest
import torch

from mmfaseg.models.decode_heads.label_maps import predict_label_map
from mmfaseg.models.layers import low_memory
from mmfaseg.models.segmentors.sliding_window_scores import (
    SlidingWindowScores,
)
from mmfaseg.testing import assert_close, peak_memory


class _Segmentor:
    """Scores depend on the pixel and on the mean of its window."""

    def __init__(self, crop_size, stride, num_classes=3):
        self.num_classes = num_classes
        self.test_cfg = dict(crop_size=crop_size, stride=stride)
        self.sizes = []

    def encode_decode(self, inputs, batch_img_metas):
        self.sizes.append(batch_img_metas[0]['img_shape'])
        scores = inputs.sum(1, keepdim=True) + inputs.mean()
        return scores * torch.arange(1, self.num_classes + 1).view(1, -1, 1, 1)


def _mean_scores(segmentor, image, tops, lefts):
    """Sums over all windows at full size."""
    height, width = segmentor.test_cfg['crop_size']
    total, count = 0 * segmentor.encode_decode(image, [dict(img_shape=0)]), 0
    for top in tops:
        for left in lefts:
            inside = torch.zeros(image.shape[2:], dtype=image.dtype)
            inside[top : top + height, left : left + width] = 1
            window = image[:, :, top : top + height, left : left + width]
            meta = dict(img_shape=tuple(window.shape[2:]))
            total[:, :, inside.bool()] += segmentor.encode_decode(
                window, [meta]
            ).flatten(2)
            count = count + inside
    return (total / count)[0].permute(1, 2, 0)


@pytest.mark.parametrize(
    ('crop_size', 'stride', 'tops', 'lefts'),
    [
        ((8, 10), (8, 10), [0, 8, 12], [0, 4]),
        ((8, 8), (3, 5), [0, 3, 6, 9, 12], [0, 5, 6]),
        ((1, 14), (1, 1), range(20), [0]),
        ((20, 1), (7, 1), [0], range(14)),
    ],
)
@pytest.mark.parametrize(
    'reads',
    [
        [(0, 20)],
        [(i, i + 1) for i in range(20)],
        [(0, 3), (3, 4), (5, 7), (7, 19), (19, 20)],
        [(5, 6), (17, 19)],  # as with padding at the top and bottom
    ],
)
def test_rows_are_means_of_their_windows(
    crop_size, stride, tops, lefts, reads
):
    segmentor = _Segmentor(crop_size, stride)
    image = torch.randn(1, 3, 20, 14, dtype=torch.float64)
    expected = _mean_scores(segmentor, image, tops, lefts)
    scores = SlidingWindowScores(segmentor, image, dict(img_shape=(20, 14)))
    assert scores.size == (20, 14)
    for start, stop in reads:
        assert_close(scores.rows(start, stop), expected[start:stop])


def test_window_is_cut_to_the_image():
    segmentor = _Segmentor((64, 64), (32, 32))
    image = torch.randn(1, 3, 5, 6)
    scores = SlidingWindowScores(segmentor, image, {})
    assert scores.rows(0, 5).shape == (5, 6, 3)
    assert segmentor.sizes == [(5, 6)]


@pytest.mark.parametrize('stride', [(0, 4), (4, 9)])
def test_invalid_stride_raises(stride):
    segmentor = _Segmentor((8, 8), stride)
    with pytest.raises(ValueError, match='must be positive and not exceed'):
        SlidingWindowScores(segmentor, torch.zeros(1, 3, 20, 20), {})


def _label_map(height):
    segmentor = _Segmentor((64, 64), (48, 48), num_classes=20)
    image = torch.zeros(1, 3, height, 64)
    return predict_label_map(SlidingWindowScores(segmentor, image, {}), {})


def test_peak_memory_does_not_grow_with_the_height(monkeypatch):
    monkeypatch.setattr(low_memory, 'CPU_ELEMENTS', 1000)
    low = peak_memory(lambda: _label_map(128))
    high = peak_memory(lambda: _label_map(1024))
    image_and_labels = (1024 - 128) * 64 * (3 * 4 + 8)
    assert high < 1.1 * low + image_and_labels
