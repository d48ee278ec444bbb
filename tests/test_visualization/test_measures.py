import numpy as np
import pytest
import torch

from mmfaseg.models.layers import MultiheadAttention
from mmfaseg.testing import assert_close
from mmfaseg.visualization.explorer.measures import (
    centers,
    changes,
    describe_entropy,
    entropy,
    overlap,
    positional_preference,
    turns,
)

pytestmark = pytest.mark.smoke


def spikes(*cells, shape=(3, 4)):
    """One map per cell, with all attention on it."""
    maps = np.zeros((len(cells), *shape), np.float32)
    for each, cell in zip(maps, cells, strict=True):
        each[cell] = 1
    return maps


def test_entropy_is_zero_for_one_cell_and_one_if_uniform():
    even = np.full((1, 3, 4), 1 / 12, np.float32)
    half = even * 2
    half[0, :, 2:] = 0
    maps = np.concatenate([spikes((1, 2)), even, half])
    expected = [0, 1, np.log(6) / np.log(12)]
    np.testing.assert_allclose(entropy(maps, 12), expected, atol=1e-6)


def test_overlap_is_the_sum_of_minima():
    first = np.array([[[0.5, 0.5, 0.0]]])
    second = np.array([[[0.2, 0.2, 0.6]]])
    assert overlap(first, second) == pytest.approx(0.4)
    assert overlap(first, first) == pytest.approx(1)


def test_entropy_is_normalized_by_attended_cells():
    even = np.full((2, 1, 4), 1 / 4)
    assert entropy(even, 4).tolist() == pytest.approx([1, 1])
    found = entropy(even, np.array([4, 16]))
    assert found.tolist() == pytest.approx([1, 0.5])
    assert entropy(spikes((0, 0)), 1).tolist() == [0]


def test_nearly_uniform_attention_is_marked():
    assert describe_entropy(0.949) == '0.95'
    assert describe_entropy(0.95) == '0.95, nearly uniform'


def test_measures_of_no_query():
    none = np.zeros((0, 3, 4), np.float32)
    assert entropy(none, 12).shape == overlap(none, none).shape == (0,)
    assert changes(none, none).shape == (0,)
    assert centers(none, 8, (24, 32)).shape == (0, 2)
    assert turns(none[..., 0], none[..., 0]).shape == (0,)


def test_centers_are_pixels_of_the_image():
    found = centers(spikes((0, 0), (2, 1)), 8, (24, 32))
    assert found.tolist() == [[4, 4], [12, 20]]
    between = spikes((0, 0)) / 2 + spikes((2, 2)) / 2
    assert centers(between, 32, (96, 128)).tolist() == [[48, 48]]


def test_centers_ignore_the_padding():
    """An image of 12 x 17 on a map of 24 x 32, stride 8."""
    maps = spikes((1, 2), (2, 3), (0, 0))
    maps[2, 2, 3] = 1
    maps[2] /= 2
    found = centers(maps, 8, (12, 17))
    # half a cell, and an eighth of one, are in the image
    assert found.tolist() == [[16.5, 10], [8.5, 6], [4, 4]]


def test_turns_are_angles():
    first = np.array([[1.0, 0], [1, 0], [1, 0], [0, 0]])
    second = np.array([[3.0, 0], [0, 2], [-1, 0], [5, 5]])
    assert turns(second, first).tolist() == [0, 1, 2, 0]


def test_changes_of_masks():
    first = np.zeros((3, 1, 4))
    second = np.zeros((3, 1, 4))
    first[0, 0, :2] = second[0, 0, 1:3] = 0.9  # one of three in common
    second[1] = 0.7  # from nothing to everything
    assert changes(second, first).tolist() == pytest.approx([2 / 3, 1, 0])


def test_preference_is_attention_without_content():
    """Compared with a layer whose contents and biases are zero."""
    torch.manual_seed(0)
    attn = MultiheadAttention(16, 4)
    query_pos, position = torch.randn(3, 16), torch.randn(16, 20)
    _, attention = attn(
        query_pos[None],
        position.T[None],
        torch.randn(1, 20, 16),
        need_attention=True,
    )
    found = positional_preference(attn, query_pos, position)
    assert_close(found, attention[0].detach())


def test_biases_and_contents_do_not_change_a_preference():
    torch.manual_seed(0)
    attn = MultiheadAttention(16, 4)
    query_pos, position = torch.randn(3, 16), torch.randn(16, 20)
    before = positional_preference(attn, query_pos, position)
    torch.nn.init.normal_(attn.in_proj_bias)
    assert_close(positional_preference(attn, query_pos, position), before)
    none = positional_preference(attn, torch.zeros(3, 16), position)
    assert_close(none, torch.full((3, 20), 1 / 20))
