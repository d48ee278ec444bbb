"""The compiled operators against the PyTorch reference.

``MMFASEG_TEST_DEVICE=cuda`` runs them on a GPU. ``MMFASEG_TEST_LIBRARY`` is
the path of a library that registers other kernels for the CPU; see
test_cuda_on_cpu.py.
"""

import os

import pytest
import torch

from mmfaseg.ops import (
    extension_is_loaded,
    hrca_gather,
    ms_deform_attn,
    use_backend,
)
from mmfaseg.testing import assert_close, peak_memory

pytestmark = [
    pytest.mark.skipif(
        not extension_is_loaded(),
        reason='the extension is not built or not used',
    ),
]

DEVICE = torch.device(os.environ.get('MMFASEG_TEST_DEVICE', 'cpu'))
LIBRARY = os.environ.get('MMFASEG_TEST_LIBRARY')
# CUDA kernels sum the gradient of value with atomic additions
SUMS_IN_ORDER = DEVICE.type == 'cpu' and LIBRARY is None
if LIBRARY:
    torch.ops.load_library(LIBRARY)

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SHAPES = [(3, 4), (5, 2), (1, 1)]


def _gather_inputs(dtype, height=21, width=29, channels=70):
    maps = [torch.randn(2, channels, height, width) for _ in range(2)]
    index = torch.stack([torch.randperm(12)[:5] for _ in range(2)])
    maps = [x.to(DEVICE, dtype) for x in maps]
    return *maps, index.to(DEVICE), torch.randn(channels).to(DEVICE)


def _deform_inputs(dtype, dims=32, queries=7):
    sums = torch.promote_types(dtype, torch.float32)
    tokens = sum(h * w for h, w in SHAPES)
    value = torch.randn(2, tokens, 3, dims).to(dtype)
    locations = 1.6 * torch.rand(2, queries, 3, 3, 4, 2).to(sums) - 0.3
    weights = torch.rand(2, queries, 3, 3, 4).to(sums)
    return value.to(DEVICE), locations.to(DEVICE), weights.to(DEVICE)


def _outputs_and_gradients(function, inputs, seed=1):
    """Returns the outputs and the gradients of a random weighted sum."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    outputs = function(*leaves)
    torch.manual_seed(seed)
    sums = [(x * torch.randn(x.shape).to(x)).sum() for x in outputs]
    gradients = torch.autograd.grad(sum(sums), leaves)
    return [*outputs, *gradients]


def _assert_equal_to_reference(function, inputs, in_order=True):
    compiled = _outputs_and_gradients(function, inputs)
    again = _outputs_and_gradients(function, inputs)
    with use_backend('reference'):
        expected = _outputs_and_gradients(function, inputs)
    for one, two, three in zip(compiled, again, expected, strict=True):
        assert torch.equal(one, two) or not in_order  # runs are bit-equal
        assert one.dtype == three.dtype
        assert_close(one.detach(), three.detach())


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('layout', ['planar', 'channels_last', 'strided'])
@pytest.mark.parametrize('size', [(24, 32), (21, 29)])
def test_gather_equals_the_reference(dtype, layout, size):
    torch.manual_seed(0)
    feature, position, index, embed = _gather_inputs(dtype, *size)
    if layout == 'channels_last':
        feature = feature.to(memory_format=torch.channels_last)
    elif layout == 'strided':
        feature = feature.transpose(2, 3).contiguous().transpose(2, 3)

    def gather(feature, position, embed):
        return hrca_gather(feature, position, index, 8, (3, 4), embed)[:2]

    _assert_equal_to_reference(gather, (feature, position, embed))


@pytest.mark.parametrize('one', DTYPES)
@pytest.mark.parametrize('two', DTYPES)
def test_mixed_dtypes_promote(one, two):
    torch.manual_seed(0)
    feature, position, index, embed = _gather_inputs(torch.float32)

    def gather(feature, position, embed):
        return hrca_gather(feature, position, index, 8, (3, 4), embed)[:2]

    _assert_equal_to_reference(
        gather, (feature.to(one), position.to(two), embed)
    )


def test_gather_keeps_the_memory_format_of_gradients():
    feature, position, index, _ = _gather_inputs(torch.float32)
    feature = feature.to(memory_format=torch.channels_last).requires_grad_()
    value, _, _ = hrca_gather(feature, position, index, 8, (3, 4))
    (grad,) = torch.autograd.grad(value.sum(), feature)
    assert grad.is_contiguous(memory_format=torch.channels_last)


def test_repeated_window_accumulates_gradients():
    torch.manual_seed(0)
    feature, position, _, embed = _gather_inputs(torch.float64)
    index = torch.tensor([[5, 2, 5], [1, 1, 1]], device=DEVICE)

    def gather(feature, position, embed):
        return hrca_gather(feature, position, index, 8, (3, 4), embed)[:2]

    _assert_equal_to_reference(gather, (feature, position, embed.double()))


@pytest.mark.skipif(
    DEVICE.type != 'cpu' or LIBRARY is not None,
    reason='a CUDA kernel stops the process',
)
@pytest.mark.parametrize('backend', ['auto', 'reference'])
@pytest.mark.parametrize('bad', [-1, 12])
def test_index_out_of_range_raises(backend, bad):
    feature, position, index, _ = _gather_inputs(torch.float32)
    index[1, 2] = bad
    with (
        use_backend(backend),
        pytest.raises(ValueError, match=f'contains {bad}, .* 0 to 11'),
    ):
        hrca_gather(feature, position, index, 8, (3, 4))
    with pytest.raises(RuntimeError, match=rf'window_index\[1, 2\] is {bad}'):
        torch.ops.mmfaseg.hrca_gather(feature, position, index, 8, 3, 4, None)


def test_index_of_wrong_dtype_raises():
    feature, position, index, _ = _gather_inputs(torch.float32)
    with pytest.raises(TypeError, match='int32'):
        hrca_gather(feature, position, index.int(), 8, (3, 4))


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('dims', [32, 5, 70])
def test_deformable_attention_equals_the_reference(dtype, dims):
    torch.manual_seed(0)

    def attend(value, locations, weights):
        return (ms_deform_attn(value, SHAPES, locations, weights),)

    inputs = _deform_inputs(dtype, dims)
    _assert_equal_to_reference(attend, inputs, SUMS_IN_ORDER)


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
@pytest.mark.parametrize('which', [1, 2])
def test_non_finite_values_propagate(bad, which):
    inputs = _deform_inputs(torch.float32)
    inputs[which][0, 3, 1, 0, 2] = bad
    value, locations, weights = inputs
    output = ms_deform_attn(value, SHAPES, locations, weights)
    head = output.unflatten(2, (3, 32))
    assert not head[0, 3, 1].isfinite().any()
    head[0, 3, 1] = 0
    assert head.isfinite().all()


def test_gradcheck():
    torch.manual_seed(0)
    feature, position, index, embed = _gather_inputs(torch.float64, 7, 9, 3)
    index = index[:, :2] % 2
    leaves = [x.requires_grad_() for x in (feature, position, embed.double())]
    assert torch.autograd.gradcheck(
        lambda f, p, e: hrca_gather(f, p, index, 5, (2, 2), e)[:2], leaves
    )
    leaves = [x.requires_grad_() for x in _deform_inputs(torch.float64, 3, 2)]
    assert torch.autograd.gradcheck(
        lambda v, x, w: ms_deform_attn(v, SHAPES, x, w), leaves
    )


def test_opcheck():
    torch.manual_seed(0)
    feature, position, index, embed = _gather_inputs(torch.float32)
    leaves = [x.requires_grad_() for x in (feature, position, embed)]
    ops = torch.ops.mmfaseg
    torch.library.opcheck(
        ops.hrca_gather.default, (*leaves[:2], index, 8, 3, 4, leaves[2])
    )
    grad = torch.randn(2, 320, 70, device=DEVICE)
    for last in (False, True):
        torch.library.opcheck(
            ops.hrca_scatter.default,
            (grad, None, index, 8, 3, 4, 21, 29, torch.float32, last),
        )
    value, locations, weights = (
        x.requires_grad_() for x in _deform_inputs(torch.float32)
    )
    flat = [x for shape in SHAPES for x in shape]
    arguments = (value, flat, locations, weights)
    torch.library.opcheck(ops.ms_deform_attn.default, arguments)
    detached = (value.detach(), flat, locations.detach(), weights.detach())
    torch.library.opcheck(
        ops.ms_deform_attn_backward.default,
        (torch.randn(2, 7, 96, device=DEVICE), *detached),
    )


@pytest.mark.parametrize('backend', ['auto', 'reference'])
@pytest.mark.parametrize('empty', ['batch', 'queries', 'windows', 'channels'])
def test_empty_inputs(empty, backend):
    value, locations, weights = _deform_inputs(torch.float32)
    if empty == 'batch':
        value, locations, weights = value[:0], locations[:0], weights[:0]
    elif empty == 'queries':
        locations, weights = locations[:, :0], weights[:, :0]
    feature, position, index, _ = _gather_inputs(torch.float32, 24, 32)
    if empty == 'batch':
        feature, position, index = feature[:0], position[:0], index[:0]
    elif empty == 'windows':
        index = index[:, :0]
    elif empty == 'channels':
        feature, position = feature[:, :0], position[:, :0]
    value.requires_grad_()
    feature.requires_grad_()
    with use_backend(backend):
        output = ms_deform_attn(value, SHAPES, locations, weights)
        key = hrca_gather(feature, position, index, 8, (3, 4))[1]
    assert output.shape == (value.size(0), weights.size(1), 96)
    assert key.shape == (
        feature.size(0),
        index.size(1) * 64,
        feature.size(1),
    )
    (output.sum() + key.sum()).backward()
    assert value.grad.shape == value.shape
    assert feature.grad.sum() == key.numel()


def test_double_backward_raises():
    value, locations, weights = _deform_inputs(torch.float64)
    value.requires_grad_()
    output = ms_deform_attn(value, SHAPES, locations, weights)
    (grad,) = torch.autograd.grad(
        output.square().sum(), value, create_graph=True
    )
    with pytest.raises(RuntimeError, match='only once'):
        grad.sum().backward()


def test_outputs_are_fully_written():
    """In deterministic mode PyTorch fills new memory with NaN."""
    torch.manual_seed(0)
    feature, position, index, embed = _gather_inputs(torch.float32)
    value, locations, weights = _deform_inputs(torch.float32)

    def run():
        outputs = hrca_gather(feature, position, index, 8, (3, 4), embed)[:2]
        return [
            *outputs,
            *torch.ops.mmfaseg.ms_deform_attn_backward(
                torch.ones(2, 7, 96, device=DEVICE),
                value,
                [3, 4, 5, 2, 1, 1],
                locations,
                weights,
            ),
            torch.ops.mmfaseg.hrca_scatter(
                outputs[0], None, index, 8, 3, 4, 21, 29, torch.float32, True
            ),
            ms_deform_attn(value, SHAPES, locations, weights),
        ]

    expected = run()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        poisoned = run()
    finally:
        torch.use_deterministic_algorithms(False)
    for one, two in zip(poisoned, expected, strict=True):
        assert_close(one, two)


@pytest.mark.skipif(not SUMS_IN_ORDER, reason='sums have no fixed order')
def test_results_do_not_depend_on_number_of_threads():
    torch.manual_seed(0)
    inputs = _deform_inputs(torch.float32, queries=200)
    feature, position, index, embed = _gather_inputs(torch.float32)

    def attend(value, locations, weights):
        return (ms_deform_attn(value, SHAPES, locations, weights),)

    def gather(feature, position):
        return hrca_gather(feature, position, index, 8, (3, 4), embed)[:2]

    threads = torch.get_num_threads()
    runs = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            runs.append(
                _outputs_and_gradients(attend, inputs)
                + _outputs_and_gradients(gather, (feature, position))
            )
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(*runs, strict=True):
        assert torch.equal(one, two)


def test_gather_reads_only_its_windows():
    torch.manual_seed(0)
    feature, position, _, embed = _gather_inputs(torch.float32)
    index = torch.tensor([[6, 0], [11, 3]], device=DEVICE)
    expected = hrca_gather(feature, position, index, 8, (3, 4), embed)
    inside = torch.zeros(2, 24, 32, dtype=torch.bool, device=DEVICE)
    for b in range(2):
        for row, column in (divmod(int(k), 4) for k in index[b]):
            inside[b, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 1
    for x in (feature, position):
        x.masked_fill_(~inside[:, None, :21, :29], float('nan'))
    found = hrca_gather(feature, position, index, 8, (3, 4), embed)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.skipif(not SUMS_IN_ORDER, reason='measures memory on the CPU')
@pytest.mark.parametrize('dtype', DTYPES)
def test_no_memory_beyond_inputs_and_results(dtype):
    shapes = [(16, 16), (8, 8)]
    sums = torch.promote_types(dtype, torch.float32)
    value = torch.randn(2, 320, 8, 32).to(dtype)
    locations = torch.rand(2, 320, 8, 2, 4, 2).to(sums)
    weights = torch.rand(2, 320, 8, 2, 4).to(sums)
    grad = torch.randn(2, 320, 256).to(dtype)
    feature, position = torch.randn(2, 2, 64, 64, 64).to(dtype).unbind()
    index = torch.arange(8).view(2, 4)
    embed = torch.randn(64)
    ops = torch.ops.mmfaseg
    flat = [x for shape in shapes for x in shape]
    samples = (flat, locations, weights)
    tokens = torch.randn(2, 256, 64).to(dtype)
    for run, inputs in (
        (
            lambda: hrca_gather(feature, position, index, 8, (8, 8), embed)[
                :2
            ],
            [],
        ),
        (
            lambda: [
                ops.hrca_scatter(
                    tokens, tokens, index, 8, 8, 8, 64, 64, dtype, False
                )
            ],
            [],
        ),
        (
            lambda: [ops.ms_deform_attn(value, *samples)],
            [value, locations, weights],
        ),
        (
            lambda: ops.ms_deform_attn_backward(grad, value, *samples),
            [value, locations, weights, grad],
        ),
    ):
        results = sum(x.nbytes for x in run())
        allowed = results + 0.1 * (results + sum(x.nbytes for x in inputs))
        assert results <= peak_memory(run) <= allowed
