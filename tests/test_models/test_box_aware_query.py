"""Positional queries that know the box around their mask."""

import pytest
import torch

from mmfaseg.models.layers import BoxAwareFocusQuery, DynamicFocusAwareQuery
from mmfaseg.models.layers.mask_boxes import box_waves
from mmfaseg.testing import assert_close

B, Q, C, H, W = 2, 3, 16, 4, 6


@pytest.fixture
def inputs():
    static = torch.randn(B, Q, C, dtype=torch.float64)
    position = torch.randn(B, C, H, W, dtype=torch.float64)
    attention = torch.rand(B, Q, H * W, dtype=torch.float64).softmax(-1)
    masks = torch.rand(B, Q, H, W, dtype=torch.float64)
    return static, position, attention, masks


@pytest.fixture
def module():
    module = BoxAwareFocusQuery(C).double()
    torch.nn.init.normal_(module.box_embed.weight)
    return module


def test_update_is_the_formula(inputs, module):
    static, position, attention, masks = inputs
    found = module.update(static, position, attention, lambda: masks)
    focus = torch.einsum('bql,bcl->bqc', attention, position.flatten(2))
    boxes = box_waves(masks, C) @ module.box_embed.weight.T
    assert_close(found, module.mlp(focus + static + boxes))


@pytest.mark.parametrize('pool', ['background', 'foreground', 'learned'])
def test_initial_pools_as_without_boxes_and_adds_one_box(inputs, pool):
    static, position, _, masks = inputs
    module = BoxAwareFocusQuery(C, pool).double()
    torch.nn.init.normal_(module.box_embed.weight)
    without = DynamicFocusAwareQuery(C, pool).double()
    without.mlp.load_state_dict(module.mlp.state_dict())
    placed = static + box_waves(masks, C) @ module.box_embed.weight.T
    assert_close(
        module.initial(static, position, masks),
        without.initial(placed, position, masks),
    )


def test_a_network_begins_as_without_boxes(make_decoder, decoder_inputs):
    aware, plain = make_decoder(box_aware=True), make_decoder()
    missing, _ = aware.load_state_dict(plain.state_dict(), strict=False)
    assert missing == ['positional_query.box_embed.weight']
    inputs = decoder_inputs()
    one, two = aware(*inputs), plain(*inputs)
    assert torch.equal(one.cls_scores[-1], two.cls_scores[-1])
    assert torch.equal(one.mask_preds[-1], two.mask_preds[-1])
    torch.nn.init.normal_(aware.positional_query.box_embed.weight)
    assert (aware(*inputs).cls_scores[-1] - two.cls_scores[-1]).abs().max() > (
        1e-4
    )


def test_boxes_are_those_of_the_masks_that_a_block_predicts(
    make_decoder, decoder_inputs
):
    """The initial ones, then those after each block of stride 32, 16, 8."""
    decoder = make_decoder(box_aware=True).train()
    memories, positions, features = decoder_inputs()
    seen = []
    query = decoder.positional_query
    add = query._add_boxes

    def watch(static, masks):
        seen.append(masks)
        return add(static, masks)

    query._add_boxes = watch
    output = decoder(memories, positions, features)
    blocks = [x for x in range(len(decoder.layers) - 1) if x % 4 != 3]
    expected = [output.mask_preds[0]]
    expected += [output.mask_preds[block + 1] for block in blocks]
    assert len(seen) == len(expected) == 10
    for masks, logits in zip(seen, expected, strict=True):
        resized = torch.nn.functional.interpolate(
            logits, masks.shape[2:], mode='bilinear', align_corners=False
        )
        assert_close(masks, resized.sigmoid())


def test_nothing_flows_back_through_the_boxes(inputs, module):
    static, position, attention, masks = inputs
    masks.requires_grad_()
    module.initial(static, position, masks).sum().backward()
    assert masks.grad is None
    assert module.box_embed.weight.grad.abs().sum() > 0


def test_the_matrix_of_zeros_learns(make_decoder, decoder_inputs):
    decoder = make_decoder(box_aware=True)
    decoder(*decoder_inputs()).cls_scores[-1].square().sum().backward()
    grad = decoder.positional_query.box_embed.weight.grad
    assert grad.abs().sum() > 0


@pytest.mark.parametrize('kind', ['parameterized', 'anchor', 'none'])
def test_only_dfpq_can_be_box_aware(make_decoder, kind):
    with pytest.raises(ValueError, match="needs positional_query='dfpq'"):
        make_decoder(positional_query=kind, box_aware=True)


def test_channels_must_have_room_for_a_box():
    with pytest.raises(ValueError, match='embed_dims=12 must be a multiple'):
        BoxAwareFocusQuery(12)
