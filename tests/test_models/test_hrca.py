import pytest
import torch
from decoder_parts import make_level, make_state

from mmfaseg.models.layers import HighResolutionCrossAttention
from mmfaseg.models.layers.hrca import sum_windows
from mmfaseg.testing import assert_close

C, Q = 8, 5


def _level(height, width, batch=2):
    shape = (batch, C, height, width)
    return make_level(
        torch.randn(shape, dtype=torch.float64),
        torch.randn(shape, dtype=torch.float64),
        index=3,
        level_embed=torch.randn(C, dtype=torch.float64),
        window_grid=(-(-height // 8), -(-width // 8)),
    )


def _state(importance, batch=2):
    """A state whose attention gives each window this importance."""
    query_embed = torch.randn(batch, Q, C, dtype=torch.float64)
    attention = importance[:, None].expand(-1, Q, -1, -1) / Q
    return make_state(query_embed, coarse_attention=attention)


def _query():
    return torch.randn(2, Q, C, dtype=torch.float64)


@pytest.mark.parametrize(
    'shape', [(24, 32), (21, 32), (24, 25), (17, 29), (24, 26)]
)
def test_all_windows_equal_dense_attention(shape):
    """Also where the windows of the last row and column stick out."""
    module = HighResolutionCrossAttention(C, 2, omega=1).double()
    level, query = _level(*shape), _query()
    state = _state(torch.rand(2, *level.window_grid))
    output, attention = module(query, state, level, need_attention=True)
    assert module.select_windows(state, level).shape == (2, 12)
    expected, dense = module.attn(
        query + state.query_embed, level.key, level.value, None, True
    )
    assert_close(output, expected)
    assert_close(attention, dense)
    fused, nothing = module(query, state, level)
    assert nothing is None
    assert_close(fused, expected)


def test_only_the_most_important_windows_are_read():
    module = HighResolutionCrossAttention(C, 2, omega=6).double()
    level, query = _level(24, 32), _query()
    importance = torch.zeros(2, 3, 4)
    importance[0, 1, 2], importance[0, 0, 0] = 2, 1
    importance[1, 2, 3], importance[1, 2, 0] = 2, 1
    state = _state(importance)
    assert module.select_windows(state, level).tolist() == [[6, 0], [11, 8]]
    output, attention = module(query, state, level, need_attention=True)
    rest = torch.ones(2, 24, 32, dtype=torch.bool)
    rest[0, 8:16, 16:24] = rest[0, 0:8, 0:8] = False
    rest[1, 16:24, 24:32] = rest[1, 16:24, 0:8] = False
    seen = attention > 0
    assert torch.equal(seen, ~rest.flatten(1)[:, None].expand_as(seen))
    assert_close(attention.sum(-1), torch.ones(2, Q).double())
    for x in (level.memory, level.position):
        x.masked_fill_(rest[:, None], float('nan'))
    assert_close(module(query, state, level)[0], output)


def test_order_of_windows_does_not_matter():
    module = HighResolutionCrossAttention(C, 2, omega=4).double()
    level, query = _level(24, 32), _query()
    importance = torch.zeros(2, 3, 4)
    importance[:, 0, 1], importance[:, 2, 2], importance[:, 1, 0] = 1, 2, 3
    state = _state(importance)
    importance[:, 0, 1], importance[:, 1, 0] = 3, 1
    swapped = state._replace(coarse_attention=_state(importance)[3])
    windows = [module.select_windows(x, level) for x in (state, swapped)]
    assert windows[0].tolist() != windows[1].tolist()
    for first, second in zip(
        module(query, state, level, need_attention=True),
        module(query, swapped, level, need_attention=True),
        strict=True,
    ):
        assert_close(first, second)


def test_positions_go_into_keys_only():
    module = HighResolutionCrossAttention(C, 2, omega=1).double()
    level, query = _level(8, 8), torch.zeros(2, Q, C, dtype=torch.float64)
    state = _state(torch.rand(2, 1, 1))
    with torch.no_grad():
        module.attn.in_proj_weight[:C] = 0  # equal weights for all keys
        module.attn.in_proj_bias.zero_()
    before = module(query, state, level)[0]
    level.position.add_(1)
    assert_close(module(query, state, level)[0], before)


def test_the_positional_query_is_the_learned_one():
    module = HighResolutionCrossAttention(C, 2, omega=4).double()
    level, query = _level(24, 32), _query()
    state = _state(torch.rand(2, 3, 4))
    other = state._replace(query_pos=torch.randn_like(state.query_pos))
    assert_close(
        module(query, state, level)[0], module(query, other, level)[0]
    )
    other = state._replace(query_embed=0 * state.query_embed)
    shifted = module(query + state.query_embed, other, level)[0]
    assert_close(module(query, state, level)[0], shifted)


@pytest.mark.parametrize(
    ('grid', 'omega', 'expected'),
    [((2, 2), 32, 1), ((1, 1), 32, 1), ((16, 16), 32, 8), ((16, 12), 32, 6)],
)
def test_number_of_windows(grid, omega, expected):
    module = HighResolutionCrossAttention(C, 2, omega=omega)
    level = _level(8 * grid[0], 8 * grid[1])
    windows = module.select_windows(_state(torch.rand(2, *grid)), level)
    assert windows.shape == (2, expected)


def test_sum_windows_adds_the_pixels_of_each_window():
    summed = sum_windows(torch.ones(1, 3, 5), (2, 3), 2)
    assert summed.tolist() == [[[4, 4, 2], [2, 2, 1]]]
    with pytest.raises(ValueError, match=r'do not cover.*\(9, 9\)'):
        sum_windows(torch.ones(1, 2, 9, 9), (4, 4), 2)


@pytest.mark.parametrize('name', ['omega', 'window_size'])
@pytest.mark.parametrize('number', [0, 3.5])
def test_invalid_counts_raise(name, number):
    with pytest.raises(ValueError, match=f'{name} must be an integer'):
        HighResolutionCrossAttention(C, 2, **{name: number})


def test_unknown_importance_stride_raises():
    with pytest.raises(ValueError, match='importance_stride must be one of'):
        HighResolutionCrossAttention(C, 2, importance_stride=4)
