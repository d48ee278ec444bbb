import pytest
import torch

from mmfaseg.ops import check_windows, hrca_gather
from mmfaseg.ops.reference import window_pixels

GRID, SIZE = (2, 3), 4


def _maps(height=8, width=12):
    shape = (2, 5, height, width)
    return torch.randn(shape), torch.randn(shape)


def test_tokens_are_the_pixels_of_the_windows():
    feature, position = _maps()
    embed = torch.randn(5)
    index = torch.tensor([[4, 0], [2, 5]])
    value, key, outside = hrca_gather(
        feature, position, index, SIZE, GRID, embed
    )
    assert outside is None
    for b in range(2):
        for k in range(2):
            row, column = divmod(int(index[b, k]), GRID[1])
            window = (
                b,
                slice(None),
                slice(row * SIZE, (row + 1) * SIZE),
                slice(column * SIZE, (column + 1) * SIZE),
            )
            tokens = slice(k * SIZE**2, (k + 1) * SIZE**2)
            expected = feature[window].flatten(1).T + embed
            assert torch.equal(value[b, tokens], expected)
            expected = expected + position[window].flatten(1).T
            assert torch.equal(key[b, tokens], expected)


def test_memory_format_does_not_matter():
    feature, position = _maps()
    index = torch.tensor([[4, 0], [2, 5]])
    plain = hrca_gather(feature, position, index, SIZE, GRID)
    last = hrca_gather(
        feature.to(memory_format=torch.channels_last),
        position.to(memory_format=torch.channels_last),
        index,
        SIZE,
        GRID,
    )
    strided = hrca_gather(
        feature.transpose(2, 3).contiguous().transpose(2, 3),
        position,
        index,
        SIZE,
        GRID,
    )
    for other in (last, strided):
        assert torch.equal(plain[0], other[0])
        assert torch.equal(plain[1], other[1])


def test_only_selected_pixels_have_gradients():
    feature, position = (x.double().requires_grad_() for x in _maps(7, 10))
    index = torch.tensor([[5], [1]])

    def gather(feature, position):
        return hrca_gather(feature, position, index, SIZE, GRID)[:2]

    assert torch.autograd.gradcheck(gather, (feature, position))
    value, _, outside = hrca_gather(feature, position, index, SIZE, GRID)
    value.masked_fill(outside[..., None], 0).sum().backward()
    expected = torch.zeros_like(feature)
    expected[0, :, 4:, 8:] = 1
    expected[1, :, :4, 4:8] = 1
    assert torch.equal(feature.grad, expected)


def test_tokens_beyond_the_border_are_marked():
    pixels, outside = window_pixels(torch.tensor([[5]]), SIZE, GRID, (7, 10))
    inside = pixels[~outside].tolist()
    assert inside == [y * 10 + x for y in (4, 5, 6) for x in (8, 9)]
    assert outside.sum() == SIZE**2 - 6


@pytest.mark.parametrize('shape', [(4, 12), (8, 8)])
def test_windows_outside_the_map_raise(shape):
    with pytest.raises(ValueError, match='ratio of the strides'):
        check_windows(GRID, SIZE, shape)


def test_map_size_mismatch_raises():
    feature, _ = _maps()
    _, position = _maps(10, 10)
    with pytest.raises(ValueError, match=r'\(2, 5, 10, 10\)'):
        hrca_gather(feature, position, torch.tensor([[0]]), SIZE, GRID)
