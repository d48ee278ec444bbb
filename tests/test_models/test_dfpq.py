import pytest
import torch
from decoder_parts import make_level, make_state

from mmfaseg.models.layers import DynamicFocusAwareQuery
from mmfaseg.testing import assert_close

C, Q, H, W = 8, 3, 4, 5


@pytest.fixture
def query_embed():
    return torch.randn(2, Q, C, dtype=torch.float64)


@pytest.fixture
def make_inputs(query_embed):
    """Makes a state and a level with given mask probabilities."""

    def make(masks, dtype=torch.float64):
        position = torch.randn(2, C, H, W, dtype=dtype)
        level = make_level(position, position, masks=masks.to(dtype))
        identity = torch.eye(Q, dtype=dtype).expand(2, -1, -1)
        return make_state(query_embed.to(dtype), identity), level

    return make


def _mlp(module, x):
    """h of the paper, written out with the matrices."""
    first, _, second = module.mlp
    hidden = x @ first.weight.T + first.bias
    hidden = torch.where(hidden > 0, hidden, 0)
    return hidden @ second.weight.T + second.bias


def test_update_equals_the_formula_of_the_paper(make_inputs):
    state, level = make_inputs(torch.rand(2, Q, H, W))
    module = DynamicFocusAwareQuery(C).double()
    attention = torch.rand(2, Q, H * W, dtype=torch.float64).softmax(-1)
    result = module.update(state, level, attention)
    for b in range(2):
        for q in range(Q):
            focus = torch.zeros(C, dtype=torch.float64)
            for y in range(H):
                for x in range(W):
                    weight = attention[b, q, y * W + x]
                    focus += weight * level.position[b, :, y, x]
            expected = _mlp(module, focus + state.query_embed[b, q])
            assert_close(result[b, q], expected)


@pytest.mark.parametrize('pool', ['background', 'foreground'])
def test_initial_query_pools_one_side_of_the_mask(make_inputs, pool):
    masks = torch.rand(2, Q, H, W, dtype=torch.float64)
    state, level = make_inputs(masks)
    module = DynamicFocusAwareQuery(C, pool).double()
    result = module.initial(state, level)
    for b in range(2):
        for q in range(Q):
            inside = masks[b, q] >= 0.5
            chosen = inside if pool == 'foreground' else ~inside
            count = chosen.double().sum() + 1e-6
            mean = level.position[b][:, chosen].sum(-1) / count
            expected = _mlp(module, mean + state.query_embed[b, q])
            assert_close(result[b, q], expected)


def test_learned_pool_uses_the_query_embedding_only(make_inputs):
    state, level = make_inputs(torch.rand(2, Q, H, W))
    module = DynamicFocusAwareQuery(C, 'learned').double()
    assert_close(module.initial(state, level), module.mlp(state.query_embed))


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16])
def test_an_empty_pool_leaves_the_query_embedding(make_inputs, dtype):
    state, level = make_inputs(torch.ones(2, Q, H, W), dtype)
    module = DynamicFocusAwareQuery(C).to(dtype)
    result = module.initial(state, level)
    assert result.isfinite().all()
    assert_close(result, _mlp(module, state.query_embed))


def test_gradient_flows_through_attention_but_not_through_masks(make_inputs):
    state, level = make_inputs(torch.rand(2, Q, H, W))
    module = DynamicFocusAwareQuery(C).double()
    attention = torch.rand(2, Q, H * W, dtype=torch.float64)
    attention.requires_grad_()
    module.update(state, level, attention).sum().backward()
    assert attention.grad.abs().sum() > 0
    mask_embed = state.mask_embed.clone().requires_grad_()
    module.initial(
        state._replace(mask_embed=mask_embed), level
    ).sum().backward()
    assert mask_embed.grad is None


def test_unknown_pool_raises():
    with pytest.raises(ValueError, match=r"'background'.*'middle'"):
        DynamicFocusAwareQuery(C, 'middle')
