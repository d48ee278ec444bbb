import pytest
import torch

from mmfaseg.models.layers import HighResolutionCrossAttention, WindowMemory
from mmfaseg.testing import assert_close

C, Q = 8, 5


def _memory(height, width, batch=2):
    shape = (batch, C, height, width)
    return WindowMemory(
        torch.randn(shape, dtype=torch.float64),
        torch.randn(shape, dtype=torch.float64),
        torch.randn(C, dtype=torch.float64),
    )


def _dense(module, query, memory):
    """Attention over the whole stride-4 map."""
    value = memory.feature.flatten(2).transpose(1, 2) + memory.level_embed
    key = value + memory.position.flatten(2).transpose(1, 2)
    return module.attn(query, key, value, need_attention=True)


@pytest.mark.parametrize(
    'shape', [(24, 32), (21, 32), (24, 25), (17, 29), (24, 26)]
)
def test_all_windows_equal_dense_attention(shape):
    """Also where the windows of the last row and column stick out."""
    module = HighResolutionCrossAttention(C, 2, omega=1).double()
    memory = _memory(*shape)
    query = torch.randn(2, Q, C, dtype=torch.float64)
    importance = torch.rand(2, -(-shape[0] // 8), -(-shape[1] // 8))
    output, focus = module(query, memory, importance)
    assert focus.index.shape == (2, 12)
    expected, attention = _dense(module, query, memory)
    assert_close(output, expected)
    assert_close(focus.attention, attention)
    unasked, nothing = module(query, memory, importance, need_focus=False)
    assert nothing is None
    assert_close(unasked, expected)


def test_only_the_most_important_windows_are_read():
    module = HighResolutionCrossAttention(C, 2, omega=6).double()
    memory = _memory(24, 32)
    query = torch.randn(2, Q, C, dtype=torch.float64)
    importance = torch.zeros(2, 3, 4)
    importance[0, 1, 2], importance[0, 0, 0] = 2, 1
    importance[1, 2, 3], importance[1, 2, 0] = 2, 1
    output, focus = module(query, memory, importance)
    assert focus.index.tolist() == [[6, 0], [11, 8]]
    rest = torch.ones(2, 24, 32, dtype=torch.bool)
    rest[0, 8:16, 16:24] = rest[0, 0:8, 0:8] = False
    rest[1, 16:24, 24:32] = rest[1, 16:24, 0:8] = False
    seen = focus.attention > 0
    assert torch.equal(seen, ~rest.flatten(1)[:, None].expand_as(seen))
    assert_close(focus.attention.sum(-1), torch.ones(2, Q).double())
    for x in (memory.feature, memory.position):
        x.masked_fill_(rest[:, None], float('nan'))
    assert_close(module(query, memory, importance)[0], output)


def test_order_of_windows_does_not_matter():
    module = HighResolutionCrossAttention(C, 2, omega=4).double()
    memory = _memory(24, 32)
    query = torch.randn(2, Q, C, dtype=torch.float64)
    importance = torch.zeros(2, 3, 4)
    importance[:, 0, 1], importance[:, 2, 2], importance[:, 1, 0] = 1, 2, 3
    output, focus = module(query, memory, importance)
    importance[:, 0, 1], importance[:, 1, 0] = 3, 1
    swapped, other = module(query, memory, importance)
    assert focus.index.tolist() != other.index.tolist()
    assert_close(output, swapped)
    assert_close(focus.attention, other.attention)


def test_positions_go_into_keys_only():
    module = HighResolutionCrossAttention(C, 2, omega=1).double()
    memory = _memory(8, 8)
    query = torch.zeros(2, Q, C, dtype=torch.float64)
    with torch.no_grad():
        module.attn.in_proj_weight[:C] = 0  # equal weights for all keys
        module.attn.in_proj_bias.zero_()
    before = module(query, memory, torch.rand(2, 1, 1))[0]
    memory.position += 1
    assert_close(module(query, memory, torch.rand(2, 1, 1))[0], before)


@pytest.mark.parametrize(
    ('grid', 'omega', 'expected'),
    [((2, 2), 32, 1), ((1, 1), 32, 1), ((16, 16), 32, 8), ((16, 12), 32, 6)],
)
def test_number_of_windows(grid, omega, expected):
    module = HighResolutionCrossAttention(C, 2, omega=omega)
    assert module.select_windows(torch.rand(3, *grid)).shape == (3, expected)


def test_no_gradient_flows_into_the_choice():
    module = HighResolutionCrossAttention(C, 2, omega=4).double()
    importance = torch.rand(2, 3, 4, requires_grad=True)
    query = torch.randn(2, Q, C, dtype=torch.float64)
    module(query, _memory(24, 32), importance)[0].sum().backward()
    assert importance.grad is None


@pytest.mark.parametrize('name', ['omega', 'window_size'])
@pytest.mark.parametrize('number', [0, 3.5])
def test_arguments_that_count_nothing_are_refused(name, number):
    with pytest.raises(ValueError, match=f'{name} must be an integer'):
        HighResolutionCrossAttention(C, 2, **{name: number})
