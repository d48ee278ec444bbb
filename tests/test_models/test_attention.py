import pytest
import torch

from mmfaseg.models.layers import MultiheadAttention, attention, low_memory
from mmfaseg.models.layers.attention import FFN
from mmfaseg.models.layers.deformable_encoder import (
    MultiScaleDeformableAttention,
    pixel_grid,
)
from mmfaseg.models.layers.low_memory import CPU_ELEMENTS, GPU_ELEMENTS, chunks
from mmfaseg.testing import assert_close, peak_memory


def _pair():
    ours = MultiheadAttention(16, 4).double()
    reference = torch.nn.MultiheadAttention(16, 4, batch_first=True).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter)
    reference.load_state_dict(ours.state_dict())  # the names are the same
    return ours, reference


@pytest.mark.parametrize('need_attention', [False, True])
@pytest.mark.parametrize('masked', [False, True])
def test_equals_torch_attention(need_attention, masked):
    ours, reference = _pair()
    query, key, value = (
        torch.randn(2, n, 16, dtype=torch.float64) for n in (5, 11, 11)
    )
    blocked = torch.rand(2, 5, 11) < 0.5 if masked else None
    if masked:
        blocked[..., 0] = False
    attn_mask = blocked.repeat_interleave(4, 0) if masked else None
    expected, attention = reference(query, key, value, attn_mask=attn_mask)
    output, averaged = ours(query, key, value, blocked, need_attention)
    assert_close(output, expected)
    if need_attention:
        assert_close(averaged, attention)
    else:
        assert averaged is None


@pytest.mark.parametrize('numbers', [1, 220, 1 << 19])
def test_chunks_of_heads_change_nothing(monkeypatch, numbers):
    """One head at a time, two, and all four."""
    monkeypatch.setattr(low_memory, 'CPU_ELEMENTS', numbers)
    ours, reference = _pair()
    query, x = (
        torch.randn(2, n, 16, dtype=torch.float64, requires_grad=True)
        for n in (5, 11)
    )
    results = []
    for attend in (
        lambda: ours(query, x, x, None, True),
        lambda: reference(query, x, x),
    ):
        output, attention = attend()
        (output.square().sum() + attention.square().sum()).backward()
        results.append((output, attention, query.grad, x.grad))
        query.grad = x.grad = None
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('is_autocast', [False, True])
@pytest.mark.parametrize('num_heads', [3, 4])
def test_gradient_mode_does_not_change_the_result(
    monkeypatch, dtype, is_autocast, num_heads
):
    """Without gradients, the softmax of two heads is computed in place."""
    monkeypatch.setattr(low_memory, 'CPU_ELEMENTS', 60)  # one head has 55
    module = MultiheadAttention(24, num_heads).to(dtype)
    query, x = (torch.randn(1, n, 24, dtype=dtype) for n in (5, 11))
    blocked = torch.arange(11).expand(1, 5, 11) % 3 == 1
    with torch.autocast('cpu', torch.bfloat16, enabled=is_autocast):
        expected = module(query, x, x, blocked, True)
        with torch.no_grad():
            found = module(query, x, x, blocked, True)
    for result, other in zip(found, expected, strict=True):
        assert result.dtype == other.dtype
        assert_close(result, other)


def test_inference_stores_the_scores_of_two_heads_once():
    module = MultiheadAttention(16, 8)
    query, x = (torch.randn(1, n, 16) for n in (100, 8192))
    one_head = 100 * 8192 * 4
    with torch.no_grad():
        peak = peak_memory(lambda: module(query, x, x, None, True))
    assert peak < 4.5 * one_head  # scores of two heads, their sum, the total


@pytest.mark.parametrize('need_attention', [False, True])
def test_runs_without_data(need_attention):
    with torch.device('meta'), torch.no_grad():
        module = MultiheadAttention(16, 4)
        x = torch.empty(2, 5, 16)
        output, _ = module(x, x, x, None, need_attention)
    assert output.shape == (2, 5, 16)


def _stored_tensors(run):
    stored = []

    def store(tensor):
        stored.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(store, lambda x: x):
        run()
    return stored


def test_backward_pass_stores_no_probabilities_of_heads():
    ours, _ = _pair()
    query, x = (torch.randn(2, n, 16, dtype=torch.float64) for n in (5, 11))
    stored = _stored_tensors(lambda: ours(query, x, x, None, True))
    shapes = [tuple(x.shape) for x in stored]
    assert (2, 4, 11, 4) in shapes  # the keys
    assert not [x for x in shapes if x[-2:] == (5, 11)]


def test_backward_pass_stores_no_queries_of_the_encoder():
    module = MultiScaleDeformableAttention(16, 4, num_levels=2)
    tokens, token_pos = torch.randn(2, 2, 5, 16)
    grid = pixel_grid([(1, 1), (2, 2)], tokens)
    stored = _stored_tensors(lambda: module(tokens, token_pos, grid))
    stored = [x.flatten() for x in stored if x.numel() == tokens.numel()]
    assert any(x.equal(tokens.flatten()) for x in stored)
    queries = (tokens + token_pos).flatten()
    assert not any(x.equal(queries) for x in stored)


@pytest.mark.parametrize('mode', ['float32', 'autocast', 'with_cp'])
def test_recomputing_does_not_change_gradients(monkeypatch, mode):
    module = MultiheadAttention(16, 4)
    query, x = (torch.randn(2, n, 16, requires_grad=True) for n in (5, 11))
    leaves = [query, x, *module.parameters()]

    def gradients():
        with torch.autocast('cpu', enabled=mode == 'autocast'):
            results = low_memory.run_layer(
                *(module, query, x, x, None, True), with_cp=mode == 'with_cp'
            )
        loss = sum(x.float().square().sum() for x in results)
        return torch.autograd.grad(loss, leaves)

    found = gradients()
    monkeypatch.setattr(attention, 'recompute', lambda run, *args: run(*args))
    for gradient, expected in zip(found, gradients(), strict=True):
        assert gradient.equal(expected)


def test_chunks_cover_all_items():
    cpu = torch.device('cpu')
    assert chunks(5, 1, cpu) == [slice(0, 5)]
    half = CPU_ELEMENTS // 2
    assert chunks(5, half, cpu) == [
        slice(0, 2),
        slice(2, 4),
        slice(4, 5),
    ]
    pairs = chunks(5, CPU_ELEMENTS // 3, cpu, multiple=2)
    assert pairs == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert chunks(3, 2 * CPU_ELEMENTS, cpu, multiple=2) == [
        slice(0, 2),
        slice(2, 3),
    ]
    rows = chunks(2, 17 * CPU_ELEMENTS, cpu, multiple=2)
    assert rows == [slice(0, 1), slice(1, 2)]  # both would be too large
    huge = chunks(3, 10 * GPU_ELEMENTS, torch.device('cuda'))
    assert huge == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_a_row_mask_serves_all_queries():
    ours, _ = _pair()
    x = torch.randn(1, 6, 16, dtype=torch.float64)
    blocked = torch.tensor([[[False, True, False, True, True, False]]])
    kept = x[:, ~blocked[0, 0]]
    assert_close(ours(x, x, x, blocked)[0], ours(x, kept, kept)[0])


def test_heads_must_divide_channels():
    with pytest.raises(ValueError, match=r'embed_dims=16.*num_heads=3'):
        MultiheadAttention(16, 3)


def test_ffn_changes_no_view_in_place():
    ffn = FFN(4, 6)
    hidden = []
    ffn[1].register_forward_hook(lambda *args: hidden.append(args[2]))
    tokens = torch.randn(2, 5, 4)
    output = ffn(tokens)
    assert hidden[0].grad_fn.name() == 'ReluBackward0'  # not CopySlices
    expected = ffn[2](ffn[0](tokens).relu())
    assert_close(output, expected)
    parameters = list(ffn.parameters())
    for found, gradient in zip(
        torch.autograd.grad(output.sum(), parameters),
        torch.autograd.grad(expected.sum(), parameters),
        strict=True,
    ):
        assert_close(found, gradient)
