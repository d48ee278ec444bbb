import pytest
import torch
import torch.nn.functional as F

from mmfaseg.ops import TokenLinear, linear
from mmfaseg.ops.linear import MIN_TOKENS
from mmfaseg.testing import assert_close

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason='requires oneDNN'
)


@pytest.fixture(autouse=True)
def threads():
    """Two threads; with one thread, the convolution is not used."""
    number = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(number)


@pytest.fixture
def convolutions(monkeypatch):
    """The number of tokens in each call of ``conv2d``."""
    calls = []
    conv2d = F.conv2d

    def count(pixels, *args):
        calls.append(pixels.size(2))
        return conv2d(pixels, *args)

    monkeypatch.setattr(F, 'conv2d', count)
    return calls


def _layer(dtype=torch.float32, bias=True):
    return TokenLinear(8, 12, bias).to(dtype)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_many_tokens_are_a_convolution(dtype, bias, convolutions):
    layer = _layer(dtype, bias)
    tokens = torch.randn(2, MIN_TOKENS, 8).to(dtype)
    expected = F.linear(tokens, layer.weight, layer.bias)
    with torch.no_grad():
        found = layer(tokens)
    assert convolutions == [2 * MIN_TOKENS]
    assert_close(found, expected.detach())


@pytest.mark.parametrize('batch', [1, 2])
def test_transposed_tokens_give_contiguous_results(batch, convolutions):
    layer = _layer()
    tokens = torch.randn(batch, 8, MIN_TOKENS).transpose(1, 2)
    with torch.no_grad():
        found = layer(tokens)
        expected = F.linear(tokens, layer.weight, layer.bias)
    assert len(convolutions) == 1
    assert found.is_contiguous()
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
    ('count', 'dtype', 'needs_graph', 'num_threads'),
    [
        (MIN_TOKENS - 1, torch.float32, False, 2),
        (MIN_TOKENS, torch.float64, False, 2),
        (MIN_TOKENS, torch.float32, True, 2),
        (MIN_TOKENS, torch.float32, False, 1),
    ],
    ids=['few tokens', 'float64', 'training', 'one thread'],
)
def test_other_cases_are_a_matrix_product(
    count, dtype, needs_graph, num_threads, convolutions
):
    layer = _layer(dtype)
    torch.set_num_threads(num_threads)
    tokens = torch.randn(1, count, 8, dtype=dtype)
    with torch.set_grad_enabled(needs_graph):
        found = linear(tokens, layer.weight, layer.bias)
    assert convolutions == []
    assert found.requires_grad == needs_graph
    assert torch.equal(found, F.linear(tokens, layer.weight, layer.bias))
