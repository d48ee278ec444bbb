import pytest
import torch

from mmfaseg.visualization.windows import (
    WindowBox,
    last_windows,
    window_boxes,
)

pytestmark = pytest.mark.smoke


def boxes_of(output, index, size=(96, 128)):
    trace = last_windows(output.traces)
    trace.window_index = torch.tensor([index])
    return window_boxes(trace, size)


def test_index_counts_row_by_row(output):
    assert boxes_of(output, [7]) == [WindowBox(1, 96, 32, 128, 64)]


def test_rank_is_the_order_of_the_indices(output):
    boxes = boxes_of(output, [6, 3, 0])
    corners = [(box.rank, box.left, box.top) for box in boxes]
    assert corners == [(1, 64, 32), (2, 96, 0), (3, 0, 0)]


def test_windows_are_cropped_to_the_image(output):
    boxes = boxes_of(output, [6, 3, 2], size=(40, 90))
    assert boxes == [
        WindowBox(1, 64, 32, 90, 40),
        WindowBox(3, 64, 0, 90, 32),
    ]


def test_window_size_counts_pixels_of_the_stride_4_map(output):
    last_windows(output.traces).window_size = 4
    assert boxes_of(output, [6]) == [WindowBox(1, 32, 16, 48, 32)]


def test_sample_selects_the_image_of_the_batch(output):
    trace = last_windows(output.traces)
    trace.window_index = torch.tensor([[0], [5]])
    boxes = window_boxes(trace, (96, 128), sample=1)
    assert boxes == [WindowBox(1, 32, 32, 64, 64)]


@pytest.mark.parametrize('index', [-1, 12])
def test_an_index_outside_the_grid_raises(output, index):
    with pytest.raises(ValueError, match=r'on a grid of \(3, 4\)'):
        boxes_of(output, [index])


def test_a_layer_without_windows_raises(output):
    with pytest.raises(ValueError, match='layer 0 has no windows'):
        window_boxes(output.traces[0], (96, 128))
    with pytest.raises(ValueError, match='no traced layer chose windows'):
        last_windows(output.traces[:3])
