import pytest
import torch

from mmfaseg.models.layers import DynamicFocusAwareQuery
from mmfaseg.testing import assert_close

C, Q, H, W = 8, 3, 4, 5


@pytest.fixture
def inputs():
    static = torch.randn(2, Q, C, dtype=torch.float64)
    position = torch.randn(2, C, H, W, dtype=torch.float64)
    return static, position


def _mlp(module, x):
    """h of the paper, written out with the matrices."""
    first, _, second = module.mlp
    hidden = x @ first.weight.T + first.bias
    hidden = torch.where(hidden > 0, hidden, 0)
    return hidden @ second.weight.T + second.bias


def test_update_is_the_formula_by_hand(inputs):
    static, position = inputs
    module = DynamicFocusAwareQuery(C).double()
    attention = torch.rand(2, Q, H * W, dtype=torch.float64).softmax(-1)
    result = module.update(static, position, attention)
    for b in range(2):
        for q in range(Q):
            focus = torch.zeros(C, dtype=torch.float64)
            for y in range(H):
                for x in range(W):
                    weight = attention[b, q, y * W + x]
                    focus += weight * position[b, :, y, x]
            assert_close(result[b, q], _mlp(module, focus + static[b, q]))


@pytest.mark.parametrize('pool', ['background', 'foreground'])
def test_initial_pools_the_named_side_of_the_mask(inputs, pool):
    static, position = inputs
    module = DynamicFocusAwareQuery(C, pool).double()
    probability = torch.rand(2, Q, H, W, dtype=torch.float64)
    result = module.initial(static, position, probability)
    for b in range(2):
        for q in range(Q):
            inside = probability[b, q] >= 0.5
            chosen = inside if pool == 'foreground' else ~inside
            count = chosen.double().sum() + 1e-6
            mean = position[b][:, chosen].sum(-1) / count
            assert_close(result[b, q], _mlp(module, mean + static[b, q]))


def test_an_empty_pool_leaves_the_static_part(inputs):
    static, position = inputs
    module = DynamicFocusAwareQuery(C).double()
    everywhere = torch.ones(2, Q, H, W, dtype=torch.float64)
    assert_close(
        module.initial(static, position, everywhere), _mlp(module, static)
    )


def test_an_empty_pool_is_finite_in_half_precision(inputs):
    static, position = (x.half() for x in inputs)
    module = DynamicFocusAwareQuery(C).half()
    everywhere = torch.ones(2, Q, H, W, dtype=torch.float16)
    assert module.initial(static, position, everywhere).isfinite().all()


def test_gradient_flows_through_attention_but_not_through_masks(inputs):
    static, position = inputs
    module = DynamicFocusAwareQuery(C).double()
    attention = torch.rand(2, Q, H * W, dtype=torch.float64)
    attention.requires_grad_()
    module.update(static, position, attention).sum().backward()
    assert attention.grad.abs().sum() > 0
    probability = torch.rand(2, Q, H, W, dtype=torch.float64)
    probability.requires_grad_()
    module.initial(static, position, probability).sum().backward()
    assert probability.grad is None


def test_unknown_pool_is_refused():
    with pytest.raises(ValueError, match=r"'background'.*'middle'"):
        DynamicFocusAwareQuery(C, 'middle')
