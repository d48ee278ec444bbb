import pytest
import torch
import torch.nn.functional as F

from mmfaseg.models.decode_heads import label_maps
from mmfaseg.models.decode_heads.label_maps import predict_label_map
from mmfaseg.models.layers import low_memory
from mmfaseg.models.layers.mask_merge import MergedScores, merge_scores_plain
from mmfaseg.testing import peak_memory


class _TensorRows:
    """Scores that exist already, shape (H, W, K); records what is read."""

    def __init__(self, scores):
        self.scores = scores
        self.size = tuple(scores.shape[:2])
        self.num_classes = self.values_per_pixel = scores.size(2)
        self.device = scores.device
        self.reads = []

    def rows(self, start, stop):
        self.reads.append((start, stop))
        return self.scores[start:stop]


def _prediction(shape, queries=7, num_classes=4, dtype=torch.float64):
    classes = torch.randn(queries, num_classes + 1, dtype=dtype)
    masks = 3 * torch.randn(*shape, queries, dtype=dtype)
    return classes.softmax(-1)[:, :-1], masks


@pytest.mark.parametrize(
    ('shape', 'size'),
    [
        ((8, 12), (32, 48)),
        ((8, 12), (31, 45)),
        ((9, 5), (9, 5)),
        ((9, 5), (4, 3)),
        ((1, 1), (3, 2)),
    ],
)
@pytest.mark.parametrize('budget', [1, 1000, 1 << 19])
@pytest.mark.parametrize('target', [(32, 48), (31, 9), (17, 9), (50, 61)])
def test_label_map_equals_argmax_of_resized_scores(
    monkeypatch, shape, size, budget, target
):
    monkeypatch.setattr(low_memory, 'CPU_ELEMENTS', budget)
    classes, masks = _prediction(shape)
    scores = merge_scores_plain(classes[None], masks[None], size)
    expected = F.interpolate(scores, target, mode='bilinear').argmax(1)[0]
    merged = MergedScores(classes, masks, size)
    labels = predict_label_map(merged, dict(ori_shape=target))
    assert torch.equal(labels, expected)


@pytest.mark.parametrize('ori_shape', [None, (21, 30), (40, 50)])
@pytest.mark.parametrize('flip', ['horizontal', 'vertical'])
def test_padding_is_cropped_and_flip_undone(monkeypatch, ori_shape, flip):
    monkeypatch.setattr(low_memory, 'CPU_ELEMENTS', 300)
    scores = torch.rand(24, 36, 3)
    left, right, top, bottom = padding = (4, 2, 1, 2)
    meta = dict(padding_size=padding, flip=True, flip_direction=flip)
    if ori_shape is not None:
        meta['ori_shape'] = ori_shape
    labels = predict_label_map(_TensorRows(scores), meta)
    cropped = scores[top : 24 - bottom, left : 36 - right].permute(2, 0, 1)
    size = ori_shape or (21, 30)
    expected = F.interpolate(cropped[None], size, mode='bilinear').argmax(1)[0]
    assert torch.equal(labels, expected.flip(int(flip == 'horizontal')))


def test_autocast_does_not_round_resized_scores():
    classes, masks = _prediction((8, 12), dtype=torch.float32)
    scores = merge_scores_plain(classes[None], masks[None], (32, 48))
    source = _TensorRows(scores[0].permute(1, 2, 0))
    meta = dict(ori_shape=(77, 91))
    with torch.autocast('cpu', torch.bfloat16):
        labels = predict_label_map(source, meta)
    assert torch.equal(labels, predict_label_map(source, meta))


@pytest.mark.parametrize('budget', [100, 10_000])
@pytest.mark.parametrize('height', [8, 64, 150])
def test_rows_are_read_in_order_within_the_budget(monkeypatch, height, budget):
    monkeypatch.setattr(low_memory, 'CPU_ELEMENTS', budget)
    monkeypatch.setattr(label_maps, 'get_num_threads', lambda: 1)
    source = _TensorRows(torch.rand(64, 10, 3))
    predict_label_map(source, dict(ori_shape=(height, 10)))
    starts, stops = zip(*source.reads, strict=True)
    assert list(starts) == sorted(starts)
    assert list(stops) == sorted(stops)
    rows = max(stop - start for start, stop in source.reads)
    assert rows <= max(8, budget // 30)


def test_chunks_have_one_row_per_thread(monkeypatch):
    monkeypatch.setattr(
        low_memory, 'CPU_ELEMENTS', 50
    )  # one row has 30 scores
    monkeypatch.setattr(label_maps, 'get_num_threads', lambda: 4)
    source = _TensorRows(torch.rand(16, 10, 3))
    predict_label_map(source, {})
    assert source.reads == [(0, 4), (4, 8), (8, 12), (12, 16)]


def test_peak_memory_does_not_depend_on_the_number_of_classes(monkeypatch):
    monkeypatch.setattr(label_maps, 'get_num_threads', lambda: 2)
    few, many = (
        MergedScores(*_prediction((64, 64), 10, k, torch.float32), (512, 512))
        for k in (10, 100)
    )
    peak = peak_memory(lambda: predict_label_map(few, {}))
    assert peak_memory(lambda: predict_label_map(many, {})) < 1.5 * peak


@pytest.mark.parametrize('size', [(512, 64), (64, 512)])
def test_peak_memory_does_not_depend_on_the_aspect_ratio(monkeypatch, size):
    monkeypatch.setattr(label_maps, 'get_num_threads', lambda: 2)
    wide, square = (
        MergedScores(*_prediction((64, 64), 10, 150, torch.float32), x)
        for x in (size[::-1], (181, 181))
    )
    peak = peak_memory(lambda: predict_label_map(square, {}))
    resized = dict(ori_shape=size)
    assert peak_memory(lambda: predict_label_map(wide, resized)) < 4 * peak


def test_unsupported_flip_direction_raises():
    meta = dict(flip=True, flip_direction='diagonal')
    with pytest.raises(ValueError, match="'diagonal' is not supported"):
        predict_label_map(_TensorRows(torch.rand(4, 5, 2)), meta)
