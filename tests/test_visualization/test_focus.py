"""Figure of windows and attention, and selection of queries."""

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from mmfaseg.visualization import Objects, choose_queries, draw_focus
from mmfaseg.visualization.attention_maps import (
    to_density,
    to_scale,
    upsample,
)
from mmfaseg.visualization.explorer.exploration import window_boxes
from mmfaseg.visualization.explorer.views import WindowBox

pytestmark = pytest.mark.smoke


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def rectangles(figure):
    """Left, top, width and height of all windows that are drawn."""
    return [
        patch.get_bbox().bounds
        for axes in figure.axes
        for patch in axes.patches
        if isinstance(patch, Rectangle)
    ]


def indices(view, chosen):
    return [(int(view.queries[x.row]), x.label) for x in chosen]


# maps


def test_scale_is_fixed_and_logarithmic():
    density = np.array([0, 0.1, 1, 10, 100, 1000])
    expected = [0, 0, 1 / 3, 2 / 3, 1, 1]
    np.testing.assert_allclose(to_scale(density), expected, atol=1e-6)


def test_uniform_attention_has_density_one_at_every_stride():
    for shape in ((2, 3), (16, 24)):
        uniform = np.full((2, *shape), 1 / np.prod(shape))
        np.testing.assert_allclose(to_density(uniform), 1)


def test_attention_covers_the_pixels_of_its_cell(output, view):
    for layer in view(output).layers[:3]:
        heat = upsample(layer.attention[:1], layer.stride, (96, 128))[0]
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        # the center of cell (1, 2) is between two pixels
        assert row + 0.5 == pytest.approx(1.5 * layer.stride, abs=0.5)
        assert column + 0.5 == pytest.approx(2.5 * layer.stride, abs=0.5)
        assert heat[-1, 0] == 0


def test_padding_is_cropped():
    cells = np.zeros((1, 3, 4), np.float32)
    cells[0, 0, 1] = 1
    full = upsample(cells, 32, (96, 128))
    part = upsample(cells, 32, (70, 99))
    np.testing.assert_array_equal(part, full[:, :70, :99])


# windows


@pytest.mark.parametrize(
    ('index', 'size', 'expected'),
    [
        ([7], (96, 128), [WindowBox(1, 96, 32, 128, 64)]),  # row by row
        (
            [6, 3, 0],
            (96, 128),
            [
                WindowBox(1, 64, 32, 96, 64),
                WindowBox(2, 96, 0, 128, 32),
                WindowBox(3, 0, 0, 32, 32),
            ],
        ),
        (  # cropped; the second one is in the padding
            [6, 3, 2],
            (40, 90),
            [WindowBox(1, 64, 32, 90, 40), WindowBox(3, 64, 0, 90, 32)],
        ),
    ],
)
def test_windows_are_ranked_boxes(output, index, size, expected):
    trace = output.traces[3]
    trace.window_index = torch.tensor([index])
    assert window_boxes(trace, size) == expected


def test_window_size_counts_pixels_of_the_stride_4_map(output):
    trace = output.traces[3]
    trace.window_size = 4
    assert window_boxes(trace, (96, 128))[0] == WindowBox(1, 32, 16, 48, 32)


# queries


def test_chosen_queries_are_confident_and_of_distinct_classes(output, view):
    found = view(output)
    chosen = choose_queries(found)
    assert indices(found, chosen) == [(1, 0), (0, 2)]
    assert chosen[0].score > chosen[1].score and chosen[0].iou is None
    probability = torch.tensor([6.0, 0, 0, 0]).softmax(0)[0]
    assert chosen[0].score == pytest.approx(probability.item(), rel=2e-2)
    upper = chosen[1].mask
    assert upper[:44].all() and not upper[52:].any()


def test_query_without_mask_is_not_chosen(output, view):
    output.mask_preds[-1][0, 1] = -8.0
    found = view(output)
    assert indices(found, choose_queries(found)) == [(0, 2), (3, 0)]


def test_ground_truth_selects_queries_by_iou(output, view):
    """At half the size of the image; the confident query 1 comes last."""
    masks = np.zeros((3, 48, 64), bool)
    masks[0, :24] = True  # the upper half
    masks[1, 36:] = True  # half of the lower half
    masks[2] = True
    ground_truth = Objects(np.array([2, 0, 1]), masks)
    found = view(output)
    chosen = choose_queries(found, ground_truth)
    assert indices(found, chosen) == [(0, 2), (1, 0)]
    assert chosen[0].iou == pytest.approx(1, abs=0.1)
    assert chosen[1].iou == pytest.approx(0.5, abs=0.05)
    figure = draw_focus(found, ground_truth=ground_truth)
    assert f'query 0: tree\nIoU {chosen[0].iou:.2f}' in titles(figure)


# the figure


def test_last_layer_of_each_stride_is_drawn(output, view):
    figure = draw_focus(view(output))
    names = titles(figure)
    for name in ('layer 4, stride 32', 'layer 1, stride 16'):
        assert any(x.startswith(name) for x in names)
    assert 'HRCA windows\nlayer 3, stride 4' in names
    assert 'window importance\nlayer 3, all queries' in names
    assert 'query 1: road\nscore 0.98' in names
    assert len(figure.axes) == 3 * 4 + 1  # and the color bar


def test_color_bar_has_numbers(output, view):
    figure = draw_focus(view(output))
    figure.canvas.draw()
    bar = figure.axes[-1]
    labels = [x.get_text() for x in bar.get_xticklabels()]
    assert labels == ['0.1×', '1×', '10×', '100×']


def test_nearly_uniform_attention_is_marked(output, view):
    attention = output.traces[2].attention
    attention.fill_(1 / attention.shape[-1])
    names = titles(draw_focus(view(output)))
    assert 'layer 2, stride 8\nentropy 1.00, nearly uniform' in names
    assert sum('nearly uniform' in x for x in names) == 2  # of each query


def test_number_of_queries_limits_the_rows(output, view, monkeypatch):
    monkeypatch.setattr('mmfaseg.visualization.focus.NUM_QUERIES', 1)
    figure = draw_focus(view(output))
    assert any(x.startswith('query 1: road') for x in titles(figure))
    assert len(figure.axes) == 2 * 4 + 1


def test_only_no_object_draws_overview_only(output, view):
    output.cls_scores[-1][..., -1] = 20.0
    assert len(draw_focus(view(output)).axes) == 4 + 1


@pytest.mark.parametrize('per_query', [False, True])
def test_decoders_without_shared_windows_draw(output, view, per_query):
    trace = output.traces[3]
    trace.window_index = trace.window_index[:, None] if per_query else None
    if per_query:
        trace.window_index = trace.window_index.expand(1, 4, 2)
    names = titles(draw_focus(view(output)))
    assert names[:2] == ['image', 'prediction']
    assert not [x for x in names if 'windows' in x]
    assert [x for x in names if 'stride 8' in x]


@pytest.mark.parametrize('size', [(65, 97), (96, 128), (33, 100)])
def test_windows_are_drawn_inside_of_odd_sizes(output_of, view, size):
    boxes = rectangles(draw_focus(view(output_of(size), size)))
    if size == (96, 128):  # stride-32 cell (1, 2) first, then (0, 3)
        assert boxes == [(64, 32, 32, 32), (96, 0, 32, 32)]
    for left, top, width, height in boxes:
        assert left + width <= size[1] and top + height <= size[0]


def test_mask_outline_uses_the_pixels_of_the_image(output, view):
    figure = draw_focus(view(output))
    outline = figure.axes[4].collections[0]  # query 1: the lower half
    vertices = np.concatenate([path.vertices for path in outline.get_paths()])
    assert vertices[:, 1].min() == pytest.approx(48, abs=4)
    assert vertices[:, 1].max() == pytest.approx(96, abs=1)
    assert vertices[:, 0].max() == pytest.approx(128, abs=1)


def test_image_larger_than_masks_raises(output, view):
    with pytest.raises(ValueError, match='size of the network input'):
        view(output, (97, 128))
