import numpy as np
import pytest
import torch

from mmfaseg.visualization.windows import (
    WindowBox,
    last_windows,
    window_boxes,
    window_importance,
)

pytestmark = pytest.mark.smoke


def boxes_of(output, index, size=(96, 128)):
    trace = last_windows(output.traces)
    trace.window_index = torch.tensor([index])
    _, importance = window_importance(output.traces, trace.block)
    return window_boxes(trace, importance, size)


def test_importance_is_summed_over_queries_of_the_block_before(output):
    source, importance = window_importance(output.traces, 3)
    assert source.block == 0  # block 4 is stride 32 too, but comes later
    assert importance.shape == (3, 4)
    assert importance[1, 2] == pytest.approx(4 * 0.75)
    assert importance.sum() == pytest.approx(4)


def test_importance_of_a_finer_stride_is_that_of_its_windows(output):
    last_windows(output.traces).importance_level = 2
    source, importance = window_importance(output.traces, 3)
    assert source.block == 2
    # pixels (1, 2) and (0, 3) of stride 8 lie in the first window
    assert importance.shape == (3, 4)
    assert importance[0, 0] == pytest.approx(4)
    assert importance.sum() == pytest.approx(4)


def test_index_counts_row_by_row(output):
    assert boxes_of(output, [7]) == [WindowBox(1, 96, 32, 128, 64)]


def test_rank_follows_importance_whatever_the_order(output):
    for index in ([6, 3, 0], [0, 3, 6], [3, 6, 0]):
        boxes = boxes_of(output, index)
        corners = [(box.rank, box.left, box.top) for box in boxes]
        assert corners == [(1, 64, 32), (2, 96, 0), (3, 0, 0)]


def test_windows_are_cut_at_the_border_and_left_out_in_the_padding(output):
    boxes = boxes_of(output, [6, 3, 2], size=(40, 90))
    assert boxes == [
        WindowBox(1, 64, 32, 90, 40),
        WindowBox(3, 64, 0, 90, 32),
    ]


def test_window_size_counts_pixels_of_the_stride_4_map(output):
    last_windows(output.traces).window_size = 4
    assert boxes_of(output, [6]) == [WindowBox(1, 32, 16, 48, 32)]


def test_the_chosen_image_of_a_batch_is_used(output):
    trace = last_windows(output.traces)
    trace.window_index = torch.tensor([[0], [5]])
    boxes = window_boxes(trace, np.ones((3, 4)), (96, 128), sample=1)
    assert boxes == [WindowBox(1, 32, 32, 64, 64)]


@pytest.mark.parametrize('index', [-1, 12])
def test_windows_outside_the_grid_raise(output, index):
    with pytest.raises(ValueError, match='grid of 12'):
        boxes_of(output, [index])


def test_mismatched_trace_raises(output):
    trace = last_windows(output.traces)
    with pytest.raises(ValueError, match='window grid'):
        window_boxes(trace, np.ones((4, 3)), (96, 128))
    with pytest.raises(ValueError, match='no windows'):
        window_boxes(output.traces[0], np.ones((3, 4)), (96, 128))
    with pytest.raises(ValueError, match='before block 0'):
        window_importance(output.traces, 0)
    with pytest.raises(ValueError, match='no traced block'):
        last_windows(output.traces[:3])
