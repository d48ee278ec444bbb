"""Operators in compiled and exported graphs, with autocast and large maps."""

import pytest
import torch

from mmfaseg.ops import (
    extension_is_loaded,
    hrca_gather,
    ms_deform_attn,
    use_backend,
)
from mmfaseg.testing import assert_close

needs_extension = pytest.mark.skipif(
    not extension_is_loaded(), reason='the extension is not built or not used'
)
BACKENDS = [pytest.param('auto', marks=needs_extension), 'reference']
SHAPES = [(3, 4), (5, 2)]


def _network(feature, position, index, embed, value, locations, weights):
    """Calls both operators between other functions."""
    height, width = feature.shape[2:]
    windows, keys, outside = hrca_gather(
        feature.relu(), position, index, 4, (height // 4, width // 4), embed
    )
    assert outside is None
    attended = ms_deform_attn(value, SHAPES, locations, weights.softmax(-1))
    return windows.mean() + keys.square().mean() + attended.square().mean()


def _inputs(height=8, width=12):
    torch.manual_seed(0)
    maps = torch.randn(2, 2, 5, height, width).unbind()
    cells = height * width // 16
    index = torch.stack([torch.randperm(cells)[:3] for _ in range(2)])
    floats = (torch.randn(5), torch.randn(2, 22, 2, 8))
    samples = (torch.rand(2, 7, 2, 2, 3, 2), torch.rand(2, 7, 2, 2, 3))
    return (*maps, index, *floats, *samples)


def _losses_and_gradients(function, inputs):
    leaves = [
        x.clone().requires_grad_() if x.is_floating_point() else x
        for x in inputs
    ]
    loss = function(*leaves)
    loss.backward()
    return [loss, *(x.grad for x in leaves if x.requires_grad)]


@pytest.mark.slow
@pytest.mark.parametrize('backend', BACKENDS)
def test_compiles_without_breaks_for_changing_sizes(backend):
    torch._dynamo.reset()
    compiled = torch.compile(
        _network, fullgraph=True, dynamic=True, backend='aot_eager'
    )
    with use_backend(backend):
        for size in ((8, 12), (16, 8), (12, 20)):
            inputs = _inputs(*size)
            expected = _losses_and_gradients(_network, inputs)
            for one, two in zip(
                _losses_and_gradients(compiled, inputs), expected, strict=True
            ):
                assert_close(one.detach(), two.detach())


@pytest.mark.slow
@pytest.mark.skipif(
    ' ' in torch.__file__,
    reason='Inductor does not quote the path of the PyTorch libraries',
)
@needs_extension
def test_inductor_compiles():
    torch._dynamo.reset()
    inputs = _inputs()
    compiled = torch.compile(_network, fullgraph=True)
    for one, two in zip(
        _losses_and_gradients(compiled, inputs),
        _losses_and_gradients(_network, inputs),
        strict=True,
    ):
        assert_close(one.detach(), two.detach())


@needs_extension
def test_exports():
    class Network(torch.nn.Module):
        def forward(self, *inputs):
            return _network(*inputs)

    inputs = _inputs()
    program = torch.export.export(Network(), inputs)
    targets = {str(node.target) for node in program.graph.nodes}
    assert 'mmfaseg.hrca_gather.default' in targets
    assert 'mmfaseg.ms_deform_attn.default' in targets
    assert_close(program.module()(*inputs), _network(*inputs))


@needs_extension
def test_compiled_graph_raises_on_invalid_index():
    torch._dynamo.reset()
    feature, position, index, *_ = _inputs()
    index[0, 1] = 6

    @torch.compile(fullgraph=True, backend='aot_eager')
    def gather(feature, position, index):
        return hrca_gather(feature, position, index, 4, (2, 3))[1]

    with pytest.raises(RuntimeError, match=r'window_index\[0, 1\] is 6'):
        gather(feature, position, index)


@pytest.mark.parametrize('backend', BACKENDS)
def test_autocast_keeps_coordinates_and_types(backend):
    feature, position, index, embed, value, locations, weights = _inputs()
    with use_backend(backend), torch.autocast('cpu', torch.bfloat16):
        tokens, keys, _ = hrca_gather(
            feature, position.bfloat16(), index, 4, (2, 3), embed
        )
        output = ms_deform_attn(
            value.bfloat16(), SHAPES, locations, weights.bfloat16()
        )
    assert tokens.dtype == keys.dtype == torch.float32
    assert output.dtype == torch.bfloat16
    expected = ms_deform_attn(
        value.bfloat16().float(), SHAPES, locations, weights.bfloat16().float()
    )
    assert_close(output, expected.bfloat16())


@needs_extension
def test_maps_larger_than_int32_range():
    """Only the pages that are accessed take memory, not all 9 GB."""
    width = 2**28
    feature = torch.empty(1, 2, 8, width, dtype=torch.bfloat16)
    assert feature.numel() > 2**31
    feature[0, :, :, -8:] = torch.arange(128.0).view(2, 8, 8).bfloat16()
    grid = (1, width // 8)
    index = torch.tensor([[grid[1] - 1]])
    value, key, _ = hrca_gather(feature, feature, index, 8, grid)
    expected = torch.arange(128.0).view(2, 64).T[None].bfloat16()
    assert torch.equal(value, expected)
    assert torch.equal(key, 2 * expected)


@needs_extension
def test_values_larger_than_int32_range():
    tokens, heads, dims = 2**26, 4, 16
    value = torch.empty(1, tokens, heads, dims, dtype=torch.bfloat16)
    assert value.numel() > 2**31
    value[0, -1] = torch.arange(64.0).view(4, 16).bfloat16()
    shape = (2**13, 2**13)
    center = torch.full((1, 1, heads, 1, 1, 2), (2**13 - 0.5) / 2**13)
    weights = torch.ones(1, 1, heads, 1, 1)
    output = ms_deform_attn(value, [shape], center, weights)
    assert torch.equal(output[0, 0], value[0, -1].flatten())
