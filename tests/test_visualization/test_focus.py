import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from mmfaseg.visualization import choose_queries, draw_focus
from mmfaseg.visualization.focus_maps import (
    attention_maps,
    label_pixels,
    last_attention,
    mask_probabilities,
    upsample,
)

pytestmark = pytest.mark.smoke
CLASSES = ('road', 'sky', 'tree')
PALETTE = [[250, 0, 0], [0, 250, 0], [0, 0, 250]]


def grey(size=(96, 128)):
    return np.full((*size, 3), 128, np.uint8)


def titles(figure):
    return [text.get_text() for text in figure.texts]


def rectangles(figure):
    """Corners of all windows drawn: left, top, width, height."""
    return [
        patch.get_bbox().bounds
        for axes in figure.axes
        for patch in axes.patches
        if isinstance(patch, Rectangle)
    ]


def test_heat_lies_on_the_pixels_of_its_cell(output):
    for level, stride in enumerate((32, 16, 8)):
        trace = last_attention(output.traces, level)
        heat = attention_maps(trace, (96, 128))
        assert heat.shape == (4, 96, 128)
        row, column = np.unravel_index(heat[0].argmax(), heat[0].shape)
        # the centre of cell (1, 2) lies between two pixels
        assert row + 0.5 == pytest.approx(1.5 * stride, abs=0.5)
        assert column + 0.5 == pytest.approx(2.5 * stride, abs=0.5)
        assert heat[0].max() == 1
        assert heat[0, -1, 0] == 0


def test_padding_is_cut_off_and_not_squeezed():
    cells = torch.zeros(1, 3, 4)
    cells[0, 0, 1] = 1
    whole = upsample(cells, 32, (96, 128))
    part = upsample(cells, 32, (70, 99))
    torch.testing.assert_close(part, whole[:, :70, :99])


def test_the_last_layer_of_each_level_is_shown(output):
    layers = [last_attention(output.traces, level).layer for level in range(3)]
    assert layers == [4, 1, 2]
    names = titles(draw_focus(output, grey(), CLASSES, PALETTE))
    for name in ('layer 4 · stride 32', 'layer 1 · stride 16'):
        assert name in names
    assert 'HRCA windows · layer 3 · stride 4' in names
    assert 'importance · layer 3, all queries' in names


def test_chosen_queries_are_confident_distinct_objects(output):
    chosen = choose_queries(*mask_probabilities(output, (96, 128)), 10)
    assert [(query.index, query.label) for query in chosen] == [(1, 0), (0, 2)]
    assert chosen[0].score > chosen[1].score
    probability = torch.tensor([6.0, 0, 0, 0]).softmax(0)[0]
    assert chosen[0].score == pytest.approx(probability.item(), rel=2e-2)
    upper = chosen[1].mask
    assert upper[:44].all() and not upper[52:].any()


def test_a_query_without_mask_in_the_image_is_not_chosen(output):
    output.mask_preds[-1][0, 1] = -8.0
    chosen = choose_queries(*mask_probabilities(output, (96, 128)), 10)
    assert [query.index for query in chosen] == [0, 3]


def test_count_limits_the_rows(output):
    chosen = choose_queries(*mask_probabilities(output, (96, 128)), 1)
    assert [query.index for query in chosen] == [1]
    figure = draw_focus(output, grey(), CLASSES, PALETTE, num_queries=1)
    assert len(figure.axes) == 8
    with pytest.raises(ValueError, match='count is 0'):
        draw_focus(output, grey(), CLASSES, PALETTE, num_queries=0)


def test_only_no_object_draws_overview_only(output):
    output.cls_scores[-1][..., -1] = 20.0
    assert len(draw_focus(output, grey(), CLASSES, PALETTE).axes) == 4


@pytest.mark.parametrize('per_query', [False, True])
def test_decoders_without_shared_windows_draw(output, per_query):
    """Nothing reads stride 4, all of it is read, or each query chooses."""
    trace = output.traces[3]
    assert trace.window_index is not None
    trace.window_index = trace.window_index[:, None] if per_query else None
    names = titles(draw_focus(output, grey(), CLASSES, PALETTE))
    assert names[:2] == ['image', 'prediction']
    assert not [x for x in names if 'windows' in x]
    assert [x for x in names if 'stride 8' in x]


def test_semantic_prediction_leaves_no_object_out(output):
    label = label_pixels(*mask_probabilities(output, (96, 128)))
    assert (label[:40] == 2).all() and (label[56:] == 0).all()


def test_row_titles_name_query_class_and_score(output):
    names = titles(draw_focus(output, grey(), CLASSES, PALETTE))
    assert 'query 1 · road · 0.99' in names
    assert any(name.startswith('query 0 · tree') for name in names)


def test_windows_are_drawn_on_their_pixels(output):
    figure = draw_focus(output, grey(), CLASSES, PALETTE)
    # stride-32 cell (1, 2) first, then (0, 3)
    assert rectangles(figure) == [(64, 32, 32, 32), (96, 0, 32, 32)]


@pytest.mark.parametrize('size', [(65, 97), (96, 128), (70, 127), (33, 100)])
def test_odd_sizes_draw(output_of, size):
    figure = draw_focus(output_of(size), grey(size), CLASSES, PALETTE)
    for left, top, width, height in rectangles(figure):
        assert left + width <= size[1] and top + height <= size[0]


def test_mask_outline_uses_the_pixels_of_the_image(output):
    figure = draw_focus(output, grey(), CLASSES, PALETTE)
    outline = figure.axes[4].collections[0]  # query 1: the lower half
    vertices = np.concatenate([path.vertices for path in outline.get_paths()])
    assert vertices[:, 1].min() == pytest.approx(48, abs=4)
    assert vertices[:, 1].max() == pytest.approx(96, abs=1)
    assert vertices[:, 0].max() == pytest.approx(128, abs=1)


def test_image_larger_than_maps_raises(output):
    with pytest.raises(ValueError, match='as the network saw it'):
        draw_focus(output, grey((97, 128)), CLASSES, PALETTE)


def test_inputs_that_do_not_match_raise(output):
    with pytest.raises(ValueError, match='3 classes'):
        draw_focus(output, grey(), CLASSES[:2], PALETTE[:2])
    with pytest.raises(ValueError, match='batch of 1'):
        draw_focus(output, grey(), CLASSES, PALETTE, sample=1)
    with pytest.raises(TypeError, match='uint8'):
        draw_focus(output, grey() / 255, CLASSES, PALETTE)
    output.traces[2].shape = (5, 5)
    with pytest.raises(ValueError, match='layer 2'):
        draw_focus(output, grey(), CLASSES, PALETTE)
    output.traces.clear()
    with pytest.raises(ValueError, match='trace_head'):
        draw_focus(output, grey(), CLASSES, PALETTE)
    output.mask_preds[-1] = output.mask_preds[-1][:, :3]
    with pytest.raises(ValueError, match='belong'):
        draw_focus(output, grey(), CLASSES, PALETTE)
