import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mmfaseg.ops import TokenLinear, linear
from mmfaseg.ops.linear import MIN_TOKENS


@pytest.fixture
def convolutions(monkeypatch):
    """The number of tokens in each call of ``conv2d``."""
    calls = []
    conv2d = F.conv2d

    def count(pixels, *args):
        calls.append(pixels.size(0) * pixels.size(2))
        return conv2d(pixels, *args)

    monkeypatch.setattr(F, 'conv2d', count)
    return calls


def _layer(dtype=torch.float32):
    return TokenLinear(8, 12).to(dtype)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_many_tokens_are_a_convolution(dtype, convolutions):
    layer = _layer(dtype)
    tokens = torch.randn(2, MIN_TOKENS, 8).to(dtype)
    expected = F.linear(tokens, layer.weight, layer.bias)
    with torch.no_grad():
        found = layer(tokens)
    assert convolutions == [2 * MIN_TOKENS]
    assert found.is_contiguous()
    assert_close(found, expected.detach())


def test_strides_of_the_tokens_do_not_matter():
    layer = _layer()
    tokens = torch.randn(2, 8, MIN_TOKENS).transpose(1, 2)
    with torch.no_grad():
        found = layer(tokens)
        expected = F.linear(tokens, layer.weight, layer.bias)
    assert_close(found, expected)


def test_autocast_applies(convolutions):
    layer = _layer()
    tokens = torch.randn(1, MIN_TOKENS, 8)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        found = layer(tokens)
        expected = F.linear(tokens, layer.weight, layer.bias)
    assert len(convolutions) == 1
    assert found.dtype == torch.bfloat16
    assert_close(found, expected)


@pytest.mark.parametrize(
    ('count', 'dtype', 'needs_graph'),
    [
        (MIN_TOKENS - 1, torch.float32, False),
        (MIN_TOKENS, torch.float64, False),
        (MIN_TOKENS, torch.float32, True),
    ],
    ids=['few tokens', 'float64', 'training'],
)
def test_other_cases_are_a_matrix_product(
    count, dtype, needs_graph, convolutions
):
    layer = _layer(dtype)
    tokens = torch.randn(1, count, 8, dtype=dtype)
    with torch.set_grad_enabled(needs_graph):
        found = linear(tokens, layer.weight, layer.bias)
    assert convolutions == []
    assert found.requires_grad == needs_graph
    assert torch.equal(found, F.linear(tokens, layer.weight, layer.bias))
