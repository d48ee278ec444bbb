import pytest
import torch
import torch.nn.functional as F

from mmfaseg.models.layers import chunks
from mmfaseg.models.layers.mask_merge import (
    label_map,
    merge_rows,
    merge_scores,
    merge_scores_plain,
)
from mmfaseg.testing import peak_memory

SIZES = pytest.mark.parametrize(
    ('shape', 'size'),
    [
        ((8, 12), (32, 48)),  # as strides have it
        ((8, 12), (31, 45)),
        ((9, 5), (9, 5)),
        ((9, 5), (4, 3)),  # smaller
        ((1, 1), (3, 2)),
    ],
)
ROWS = pytest.mark.parametrize('numbers', [1, 1000, 1 << 19])


def _inputs(shape, dtype=torch.float64, batch=2, queries=7, classes=4):
    chances = torch.randn(batch, queries, classes + 1, dtype=dtype)
    masks = 3 * torch.randn(batch, *shape, queries, dtype=dtype)
    return chances.softmax(-1)[..., :-1], masks


@SIZES
@ROWS
def test_merge_in_runs_of_rows_equals_the_definition(
    monkeypatch, shape, size, numbers
):
    monkeypatch.setattr(chunks, 'CPU_NUMBERS', numbers)
    classes, masks = _inputs(shape)
    scores = merge_scores(classes, masks, size)
    assert scores.shape == (2, 4, *size)
    plain = merge_scores_plain(classes, masks, size)
    torch.testing.assert_close(scores, plain, atol=1e-9, rtol=0)


@SIZES
@ROWS
@pytest.mark.parametrize('target', [(32, 48), (17, 9), (50, 61)])
def test_label_map_equals_resized_scores(
    monkeypatch, shape, size, numbers, target
):
    monkeypatch.setattr(chunks, 'CPU_NUMBERS', numbers)
    classes, masks = _inputs(shape)
    scores = merge_scores_plain(classes, masks, size)
    expected = F.interpolate(scores, target, mode='bilinear').argmax(1)[0]

    def read_rows(start, stop):
        rows = slice(start, stop)
        return merge_rows(classes[0], masks[0], size, rows)

    labels = label_map(read_rows, size, target, 500, masks.device)
    assert torch.equal(labels, expected)


def test_autocast_does_not_round_what_is_resized():
    classes, masks = _inputs((8, 12), torch.float32, 1)
    scores = merge_scores_plain(classes, masks, (32, 48))[0].permute(1, 2, 0)

    def labels():
        return label_map(
            lambda start, stop: scores[start:stop],
            (32, 48),
            (77, 91),
            500,
            masks.device,
        )

    with torch.autocast('cpu', torch.bfloat16):
        rounded = labels()
    assert torch.equal(rounded, labels())


def test_an_overflow_in_half_precision_stays_in_its_row():
    classes, masks = _inputs((4, 6), torch.float16, 1)
    masks[0, 1, 2, 3] = float('inf')
    scores = merge_scores(classes, masks, (16, 24))
    assert scores.isfinite().all()
    plain = masks.float().clamp(-65504, 65504)
    expected = merge_scores_plain(classes.float(), plain, (16, 24))
    torch.testing.assert_close(scores.float(), expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize('numbers', [100, 10_000])
def test_shrunken_labels_read_no_more_at_once_than_others(
    monkeypatch, numbers
):
    monkeypatch.setattr(chunks, 'CPU_NUMBERS', numbers)
    scores = torch.rand(64, 10, 3)
    read = []

    def read_rows(start, stop):
        read.append(stop - start)
        return scores[start:stop]

    label_map(read_rows, (64, 10), (8, 10), 30, scores.device)
    assert max(read) <= max(8, numbers // 30)


def test_a_graph_is_kept_where_it_is_asked_for():
    classes, masks = _inputs((4, 6))
    masks.requires_grad_()
    merge_scores(classes, masks, (8, 12)).sum().backward()
    assert masks.grad.abs().sum() > 0


def test_memory_is_that_of_the_scores():
    """The masks at full resolution would be as large as the result."""
    classes, masks = _inputs((64, 64), torch.float32, 1, 20, 20)
    result = 20 * 512 * 512 * 4
    peak = peak_memory(lambda: merge_scores(classes, masks, (512, 512)))
    assert peak < 1.5 * result
    plain = peak_memory(lambda: merge_scores_plain(classes, masks, (512, 512)))
    assert plain > 1.9 * result
