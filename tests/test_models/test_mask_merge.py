import pytest
import torch

from mmfaseg.models.layers import low_memory, mask_merge
from mmfaseg.models.layers.mask_merge import merge_scores, merge_scores_plain
from mmfaseg.testing import assert_close, peak_memory


def _inputs(shape, dtype=torch.float64, batch=2, queries=7, num_classes=4):
    classes = torch.randn(batch, queries, num_classes + 1, dtype=dtype)
    masks = 3 * torch.randn(batch, *shape, queries, dtype=dtype)
    return classes.softmax(-1)[..., :-1], masks


@pytest.mark.parametrize(
    ('shape', 'size'),
    [
        ((8, 12), (32, 48)),  # the stride of the masks
        ((8, 12), (31, 45)),
        ((9, 5), (9, 5)),
        ((9, 5), (4, 3)),  # smaller
        ((1, 1), (3, 2)),
    ],
)
@pytest.mark.parametrize('budget', [1, 1000, 1 << 19])
def test_merge_in_chunks_equals_reference(monkeypatch, shape, size, budget):
    monkeypatch.setattr(low_memory, 'CPU_ELEMENTS', budget)
    classes, masks = _inputs(shape)
    scores = merge_scores(classes, masks, size)
    assert scores.shape == (2, 4, *size)
    plain = merge_scores_plain(classes, masks, size)
    torch.testing.assert_close(scores, plain, atol=1e-9, rtol=0)


@pytest.mark.parametrize('threads', [1, 2, 5])
def test_chunks_have_one_row_per_thread(monkeypatch, threads):
    monkeypatch.setattr(low_memory, 'CPU_ELEMENTS', 100)  # a row has 264
    monkeypatch.setattr(mask_merge, 'get_num_threads', lambda: threads)
    resize_rows, heights = mask_merge.resize_rows, []

    def record(*args):
        heights.append(args[-1].stop - args[-1].start)
        return resize_rows(*args)

    monkeypatch.setattr(mask_merge, 'resize_rows', record)
    classes, masks = _inputs((5, 6), batch=1)
    scores = merge_scores(classes, masks, (20, 24))
    assert heights == [threads] * (20 // threads)
    assert_close(scores, merge_scores_plain(classes, masks, (20, 24)))


def test_half_precision_overflow_stays_in_its_row():
    classes, masks = _inputs((4, 6), torch.float16, 1)
    masks[0, 1, 2, 3] = float('inf')
    scores = merge_scores(classes, masks, (16, 24))
    assert scores.isfinite().all()
    plain = masks.float().clamp(-65504, 65504)
    expected = merge_scores_plain(classes.float(), plain, (16, 24))
    torch.testing.assert_close(scores.float(), expected, atol=1e-2, rtol=0)


def test_gradients_flow_to_masks():
    classes, masks = _inputs((4, 6))
    masks.requires_grad_()
    merge_scores(classes, masks, (8, 12)).sum().backward()
    assert masks.grad.abs().sum() > 0


def test_peak_memory_is_that_of_the_scores():
    """The masks at full resolution would be as large as the result."""
    classes, masks = _inputs((64, 64), torch.float32, 1, 20, 20)
    result = 20 * 512 * 512 * 4
    peak = peak_memory(lambda: merge_scores(classes, masks, (512, 512)))
    assert peak < 1.5 * result
    plain = peak_memory(lambda: merge_scores_plain(classes, masks, (512, 512)))
    assert plain > 1.9 * result
