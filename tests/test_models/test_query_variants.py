"""Positional queries that DFPQ is compared with."""

import pytest
import torch
import torch.nn.functional as F
from decoder_parts import make_level, make_state

from mmfaseg.models.layers import (
    AnchorPositionalQuery,
    BoxAwareFocusQuery,
    DynamicFocusAwareQuery,
    LearnedPositionalQuery,
    NoPositionalQuery,
)
from mmfaseg.models.layers.positional_encoding import sine_embedding
from mmfaseg.models.layers.query_variants import mask_boxes
from mmfaseg.testing import assert_close
from mmfaseg.visualization.decoder_trace import trace_decoder

B, Q, C, H, W = 2, 3, 16, 4, 6
LEARNED = dict(type='mmfaseg.LearnedPositionalQuery')
NONE = dict(type='mmfaseg.NoPositionalQuery')
ANCHOR = dict(type='mmfaseg.AnchorPositionalQuery')
BOX_AWARE = dict(type='mmfaseg.BoxAwareFocusQuery')


@pytest.fixture
def masks():
    return torch.rand(B, Q, H, W, dtype=torch.float64)


@pytest.fixture
def inputs(masks):
    """A state and a level with these masks."""
    position = torch.randn(B, C, H, W, dtype=torch.float64)
    query_embed = torch.randn(B, Q, C, dtype=torch.float64)
    identity = torch.eye(Q, dtype=torch.float64).expand(B, -1, -1)
    level = make_level(position, position, masks=masks)
    return make_state(query_embed, identity), level


@pytest.fixture
def box_aware():
    module = BoxAwareFocusQuery(C).double()
    torch.nn.init.normal_(module.box_embed.weight)
    return module


@pytest.mark.parametrize('kind', [LearnedPositionalQuery, NoPositionalQuery])
def test_static_queries_have_no_parameters_and_never_change(kind, inputs):
    state, level = inputs
    query = kind(C)
    assert list(query.parameters()) == []
    assert query.initial(state, level) is state.query_embed
    assert query.update(state, level, None) is state.query_pos


def test_no_positional_query_is_zero_in_all_layers(
    make_decoder, decoder_inputs
):
    decoder = make_decoder(positional_query=NONE)
    assert not [x for x, _ in decoder.named_parameters() if 'query_embed' in x]
    output = trace_decoder(decoder, *decoder_inputs())
    assert all((x.query_pos == 0).all() for x in output.traces)


def test_learned_query_is_the_same_in_all_layers(make_decoder, decoder_inputs):
    decoder = make_decoder(positional_query=LEARNED)
    output = trace_decoder(decoder, *decoder_inputs())
    learned = decoder.query_embed.weight.expand(2, -1, -1)
    assert all(torch.equal(x.query_pos, learned) for x in output.traces)


def box_embedding(masks, embed_dims):
    return sine_embedding(mask_boxes(masks), embed_dims // 4).flatten(2)


def test_box_of_a_rectangle_is_the_rectangle():
    masks = torch.zeros(1, 3, 10, 20, dtype=torch.float64)
    masks[0, 0, 2:6, 5:15] = 1
    masks[0, 1, 9, 0] = 0.25  # one pixel, whatever its probability
    boxes = mask_boxes(masks)[0]
    expected = [[0.5, 0.4, 0.5, 0.4], [0.025, 0.95, 0.05, 0.1]]
    assert_close(boxes[:2], torch.tensor(expected, dtype=torch.float64))
    assert boxes[2, :2].tolist() == [0.5, 0.5]  # empty: the center
    assert boxes.isfinite().all()
    assert mask_boxes(masks.half()).dtype == torch.float32


def test_anchor_query_depends_on_masks_and_embedding_only(inputs, masks):
    state, level = inputs
    query = AnchorPositionalQuery(C).double()
    expected = query.mlp(box_embedding(masks, C) + state.query_embed)
    assert_close(query.initial(state, level), expected)
    assert_close(query.update(state, level, None), expected)


def test_anchors_come_from_the_latest_prediction(make_decoder, decoder_inputs):
    decoder = make_decoder(positional_query=ANCHOR)
    inputs = decoder_inputs()
    output = trace_decoder(decoder, *inputs)
    embed = decoder.query_embed.weight.expand(2, -1, -1)
    for layer, level in ((1, 0), (2, 1), (5, 0), (12, 2)):
        # the layer before it, or before the stride-4 layer between them
        number = layer if level == (layer - 1) % 4 else layer - 1
        masks = F.interpolate(
            output.mask_preds[number],
            inputs[0][level].shape[2:],
            mode='bilinear',
        )
        boxes = box_embedding(masks.sigmoid(), 16)
        expected = decoder.positional_query.mlp(boxes + embed)
        assert_close(output.traces[layer].query_pos, expected)


def test_box_aware_update_equals_the_formula(inputs, masks, box_aware):
    state, level = inputs
    attention = torch.rand(B, Q, H * W, dtype=torch.float64).softmax(-1)
    position = level.position.flatten(2)
    focus = torch.einsum('bql,bcl->bqc', attention, position)
    boxes = box_embedding(masks, C) @ box_aware.box_embed.weight.T
    expected = box_aware.mlp(focus + state.query_embed + boxes)
    assert_close(box_aware.update(state, level, attention), expected)


@pytest.mark.parametrize('pool', ['background', 'foreground', 'learned'])
def test_box_aware_initial_query_adds_the_box_to_the_pool(inputs, masks, pool):
    state, level = inputs
    module = BoxAwareFocusQuery(C, pool).double()
    torch.nn.init.normal_(module.box_embed.weight)
    without = DynamicFocusAwareQuery(C, pool).double()
    without.mlp.load_state_dict(module.mlp.state_dict())
    boxes = box_embedding(masks, C) @ module.box_embed.weight.T
    shifted = state._replace(query_embed=state.query_embed + boxes)
    assert_close(module.initial(state, level), without.initial(shifted, level))


def test_box_aware_network_starts_as_dfpq(make_decoder, decoder_inputs):
    aware, plain = make_decoder(positional_query=BOX_AWARE), make_decoder()
    missing, _ = aware.load_state_dict(plain.state_dict(), strict=False)
    assert missing == ['positional_query.box_embed.weight']
    inputs = decoder_inputs()
    one, two = aware(*inputs), plain(*inputs)
    assert torch.equal(one.cls_scores[-1], two.cls_scores[-1])
    assert torch.equal(one.mask_preds[-1], two.mask_preds[-1])
    torch.nn.init.normal_(aware.positional_query.box_embed.weight)
    change = aware(*inputs).cls_scores[-1] - two.cls_scores[-1]
    assert change.abs().max() > 1e-4


def test_boxes_get_no_gradient_and_their_embedding_does(
    make_decoder, decoder_inputs
):
    decoder = make_decoder(positional_query=BOX_AWARE)
    memories, positions, features = decoder_inputs()
    features.requires_grad_()
    output = decoder(memories, positions, features)
    output.cls_scores[-1].square().sum().backward()
    assert features.grad is None
    grad = decoder.positional_query.box_embed.weight.grad
    assert grad.abs().sum() > 0


@pytest.mark.parametrize('kind', [AnchorPositionalQuery, BoxAwareFocusQuery])
def test_channels_must_hold_a_box_embedding(kind):
    with pytest.raises(ValueError, match='embed_dims=12 must be a multiple'):
        kind(12)
