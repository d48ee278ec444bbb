from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from decoder_parts import DECODER, make_level, make_state
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfaseg.models.layers import (
    CrossAttention,
    DecoderState,
    DenseCrossAttention,
    DFPQDecoderLayer,
    FeatureLevel,
    HighResolutionCrossAttention,
    MaskedCrossAttention,
    MaskPredictions,
    PositionalQuery,
)
from mmfaseg.models.layers.feature_level import make_levels
from mmfaseg.testing import assert_close
from mmfaseg.visualization.decoder_trace import trace_decoder

HIGH_RES_LAYERS = (3, 7, 11)


class LayerWithoutAttention(nn.Module):
    """A decoder layer that does not keep its cross-attention."""

    def __init__(self, embed_dims, cross_attn):
        super().__init__()


class AttentionOnItsOwnLevel(DenseCrossAttention):
    """Asks for the attention of stride 4 to choose what to read there."""

    coarse_level = 3


class SilentLayer(DFPQDecoderLayer):
    """A layer that never returns its attention."""

    def forward(self, query, state, level, need_attention=False):
        return super().forward(query, state, level)[0], None


class Call(NamedTuple):
    """What a layer was given, and the queries that it returned."""

    query: Tensor
    state: DecoderState
    level: FeatureLevel
    result: Tensor


@pytest.fixture
def spied(make_decoder, decoder_inputs):
    """A decoder, its inputs, its output and the calls of its layers."""
    decoder = make_decoder()
    calls = []
    for layer in decoder.layers.values():
        layer.register_forward_hook(
            lambda _, args, result: calls.append(Call(*args[:3], result[0])),
        )
    memories, positions, mask_features = decoder_inputs()
    inputs = memories, positions, 10 * mask_features  # clear-cut masks
    return decoder, inputs, trace_decoder(decoder, *inputs), calls


def test_layers_attend_to_the_levels_in_turn(spied):
    decoder, _, output, _ = spied
    assert [x.level for x in output.traces] == [0, 1, 2, 3] * 3 + [0]
    assert [x.shape for x in output.traces[:4]] == [
        (4, 6),
        (8, 12),
        (16, 24),
        (32, 48),
    ]
    for index, layer in enumerate(decoder.layers.values()):
        kind = (
            HighResolutionCrossAttention
            if index in HIGH_RES_LAYERS
            else MaskedCrossAttention
        )
        assert type(layer.cross_attn) is kind


def test_masked_attention_is_a_part(make_decoder, decoder_inputs):
    learned = dict(
        positional_query=dict(type='mmfaseg.LearnedPositionalQuery')
    )
    dense = dict(masked_attention=dict(type='mmfaseg.DenseCrossAttention'))
    replaced = make_decoder(**learned, **dense).eval()
    for level in '012':
        attention = replaced.layers[level].cross_attn
        assert type(attention) is DenseCrossAttention
    # with the threshold 0, no pixel is blocked
    nothing = dict(masked_attention=dict(mask_threshold=0.0))
    decoder = make_decoder(**learned, **nothing).eval()
    decoder.load_state_dict(replaced.state_dict())
    inputs = decoder_inputs()
    assert_close(
        decoder(*inputs).mask_preds[-1], replaced(*inputs).mask_preds[-1]
    )


def test_positional_queries_that_no_layer_updates_raise(make_decoder):
    dense = dict(masked_attention=dict(type='mmfaseg.DenseCrossAttention'))
    with pytest.raises(
        ValueError,
        match=r'DynamicFocusAwareQuery would never be updated: set '
        r'updates_query_pos.*DenseCrossAttention',
    ):
        make_decoder(**dense)


def test_predictions_are_made_before_and_after_every_layer(spied):
    decoder, (_, _, mask_features), output, calls = spied
    assert len(output.cls_scores) == len(output.mask_preds) == 14
    queries = [calls[0].query, *(call.result for call in calls)]
    predictor = decoder.predictor
    for query, scores, masks in zip(
        queries, output.cls_scores, output.mask_preds, strict=True
    ):
        normed = F.layer_norm(
            query, (16,), predictor.norm.weight, predictor.norm.bias
        )
        assert_close(scores, predictor.class_embed(normed))
        embed = predictor.mask_embed(normed)
        assert_close(
            masks, torch.einsum('bqc,bchw->bqhw', embed, mask_features)
        )


def test_positional_query_comes_from_the_previous_attention(spied):
    decoder, (_, positions, _), output, calls = spied
    static = decoder.query_embed.weight.expand(2, -1, -1)
    for layer in (1, 2, 5, 6, 9, 10):
        level = (layer - 1) % 4
        attention = output.traces[layer - 1].attention
        focus = attention @ positions[level].flatten(2).transpose(1, 2)
        expected = decoder.positional_query.mlp(focus + static)
        assert_close(calls[layer].state.query_pos, expected)
        assert_close(output.traces[layer].query_pos, expected)


def test_first_positional_query_pools_the_background(spied):
    decoder, (_, positions, mask_features), output, calls = spied
    static = decoder.query_embed.weight.expand(2, -1, -1)
    mask = F.interpolate(output.mask_preds[0], (4, 6), mode='bilinear')
    background = (mask.sigmoid() < 0.5).double().flatten(2)
    mean = background @ positions[0].flatten(2).transpose(1, 2)
    mean = mean / (background.sum(-1, keepdim=True) + 1e-6)
    expected = decoder.positional_query.mlp(mean + static)
    assert_close(calls[0].state.query_pos, expected)


@pytest.mark.parametrize('layer', HIGH_RES_LAYERS)
def test_high_res_layers_leave_the_dynamic_query_unchanged(spied, layer):
    decoder, (_, positions, _), output, calls = spied
    static = decoder.query_embed.weight.expand(2, -1, -1)
    attention = output.traces[layer - 1].attention
    focus = attention @ positions[2].flatten(2).transpose(1, 2)
    dynamic = decoder.positional_query.mlp(focus + static)
    assert_close(output.traces[layer].query_pos, static)  # cross-attention
    assert_close(calls[layer].state.query_pos, dynamic)  # self-attention
    assert_close(calls[layer + 1].state.query_pos, dynamic)


def test_windows_follow_the_latest_stride_32_attention(spied):
    _, _, output, _ = spied
    for layer in HIGH_RES_LAYERS:
        trace = output.traces[layer]
        scores = output.traces[layer - 3].attention.sum(1)
        expected = scores.topk(24 // 8, dim=1).indices
        assert torch.equal(trace.window_index, expected)
        assert trace.window_grid == (4, 6)
        assert trace.window_size == 8


def test_blocked_pixels_come_from_the_latest_mask(spied):
    decoder, _, output, calls = spied
    for layer in (0, 1, 2, 4, 12):
        trace = output.traces[layer]
        mask = F.interpolate(
            output.mask_preds[layer], trace.shape, mode='bilinear'
        )
        blocked = mask.sigmoid().flatten(2) < 0.15
        blocked[blocked.all(-1)] = False
        attention = decoder.layers[str(layer)].cross_attn
        call = calls[layer]
        found = attention.blocked_pixels(call.state, call.level)
        assert torch.equal(found, blocked)
        assert blocked.any(), 'the case must layer something'
        assert (trace.attention[blocked] == 0).all()


def test_positions_go_into_keys_only(spied):
    decoder, (memories, positions, _), _, calls = spied
    for layer, call in enumerate(calls):
        index = layer % 4
        level = call.level
        embed = decoder.level_embed.weight[index]
        assert level.index == index
        assert level.memory is memories[index]
        assert level.position is positions[index]
        assert torch.equal(level.level_embed, embed)
        if index == 3:
            assert level.key is level.value is None
            continue
        value = memories[index] + embed[:, None, None]
        key = value + positions[index]
        assert_close(level.value, value.flatten(2).transpose(1, 2))
        assert_close(level.key, key.flatten(2).transpose(1, 2))


def test_a_query_with_all_pixels_blocked_attends_to_all():
    attention = MaskedCrossAttention(8, 2, mask_threshold=0.15)
    masks = torch.full((1, 2, 2, 2), 0.01)
    masks[0, 1, 0, 0] = 0.99
    maps = torch.zeros(1, 8, 2, 2)
    level = make_level(maps, maps, masks=masks)
    state = make_state(torch.zeros(1, 2, 8), torch.eye(2)[None])
    blocked = attention.blocked_pixels(state, level)
    assert blocked[0].tolist() == [[False] * 4, [False, True, True, True]]


@pytest.mark.parametrize('size', [(128, 192), (100, 68), (33, 97)])
def test_masks_of_a_level_are_the_resized_masks(decoder_inputs, size):
    """Reducing the features first is the plain path's resize of the masks."""
    memories, positions, features = decoder_inputs(2, *size)
    embed = torch.randn(2, 6, 16, dtype=torch.float64)
    masks = MaskPredictions(embed[None], features)[0]
    level_embeds = torch.zeros(4, 16)
    levels = make_levels(memories, positions, features, level_embeds, ())
    assert len(levels) == 4
    for level in levels:
        plain = F.interpolate(masks, level.shape, mode='bilinear').sigmoid()
        fast = level.mask_probability(embed)
        torch.testing.assert_close(fast, plain, atol=1e-9, rtol=0)


def test_stacked_masks_are_those_read_one_by_one():
    embeds = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    features = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    masks = MaskPredictions(embeds, features)
    expected = torch.einsum('dbqc,bchw->dbqhw', embeds, features)
    assert len(masks) == 3
    assert_close(masks.stack(), expected)
    assert_close(torch.stack(list(masks)), expected)
    assert_close(masks[-1], expected[-1])
    assert_close(masks.pixels(1), expected[1].permute(0, 2, 3, 1))


def test_checkpointing_changes_no_gradient(make_decoder, decoder_inputs):
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        decoder = make_decoder(with_cp=with_cp)
        runs = []
        decoder.layers['0'].ffn.register_forward_hook(
            lambda *_, runs=runs: runs.append(1)
        )
        output = decoder(*decoder_inputs())
        (output.mask_preds.stack() ** 2).sum().backward()
        gradients = [x.grad for x in decoder.parameters()]
        results.append([x for x in gradients if x is not None])
        assert len(runs) == 1 + with_cp, 'layers must run again'
    for plain, again in zip(*results, strict=True):
        assert torch.equal(plain, again)


def test_no_gradient_flows_through_the_masks_that_block(
    make_decoder, decoder_inputs
):
    """The mask head of the last prediction only feels its own output."""
    decoder = make_decoder()
    memories, positions, mask_features = decoder_inputs()
    mask_features.requires_grad_()
    output = decoder(memories, positions, mask_features)
    output.cls_scores[-1].sum().backward()
    assert mask_features.grad is None


def test_gradients_are_those_of_finite_differences(
    make_decoder, decoder_inputs
):
    """Nothing but masks and the choice of windows is cut off the graph."""
    decoder = make_decoder(
        embed_dims=4,
        num_layers=5,
        num_queries=2,
        layer=dict(feedforward_channels=8),
    )
    memories, positions, mask_features = decoder_inputs(1, 32, 32, 4)
    inputs = (*memories, *positions, mask_features)

    def predict(*inputs):
        output = decoder(inputs[:4], inputs[4:8], inputs[8])
        return output.cls_scores[-1], output.mask_preds[-1]

    for x in inputs:
        x.requires_grad_()
    assert torch.autograd.gradcheck(predict, inputs, fast_mode=True)
    decoder.zero_grad()
    predict(*inputs)[0].sum().backward()
    first = decoder.layers['0'].ffn[0].weight
    assert first.grad.abs().sum() > 0, 'layers must be connected'


def test_evaluation_returns_the_predictions_of_training(
    make_decoder, decoder_inputs
):
    decoder, inputs = make_decoder(), decoder_inputs()
    trained = decoder(*inputs)
    evaluated = decoder.eval()(*inputs)
    assert len(evaluated.cls_scores) == len(evaluated.mask_preds) == 14
    for name in ('cls_scores', 'mask_preds'):
        for found, expected in zip(
            getattr(evaluated, name), getattr(trained, name), strict=True
        ):
            assert_close(found, expected)


def test_attention_is_computed_only_where_it_is_read(make_decoder):
    """By DFPQ after masked attention and by HRCA, never after the last."""
    changes = dict(positional_query=dict(type='mmfaseg.NoPositionalQuery'))
    for decoder, expected in (
        (make_decoder(), [0, 1, 2, 4, 5, 6, 8, 9, 10]),
        (make_decoder(**changes), [0, 4, 8]),
        (make_decoder(**changes, high_res_attention=None), []),
    ):
        found = [
            index
            for index, step in enumerate(decoder.schedule)
            if step.need_attention
        ]
        assert found == expected


def test_tracing_changes_nothing(make_decoder, decoder_inputs):
    decoder, inputs = make_decoder(), decoder_inputs()
    plain, traced = decoder(*inputs), trace_decoder(decoder, *inputs)
    assert_close(plain.mask_preds[-1], traced.mask_preds[-1])
    assert_close(plain.cls_scores[-1], traced.cls_scores[-1])


def test_images_of_a_batch_are_independent(make_decoder, decoder_inputs):
    decoder = make_decoder().eval()
    memories, positions, mask_features = decoder_inputs()
    both = decoder(memories, positions, mask_features)
    second = decoder(
        [x[1:] for x in memories],
        [x[1:] for x in positions],
        mask_features[1:],
    )
    assert_close(both.mask_preds[-1][1:], second.mask_preds[-1])


@pytest.mark.parametrize('size', [(32, 32), (100, 68), (4, 4), (33, 97)])
def test_any_size(make_decoder, decoder_inputs, size):
    output = make_decoder().eval()(*decoder_inputs(1, *size))
    assert output.mask_preds[0].isfinite().all()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(num_layers=3), 'num_layers=3 must be at least 4'),
        (
            dict(num_layers=2, high_res_attention=None),
            'num_layers=2 must be at least 3',
        ),
        (
            dict(masked_attention=dict(mask_threshold=1.0)),
            r'mask_threshold must be in \[0, 1\)',
        ),
        (dict(layer=dict(num_heads=3)), 'num_heads=3'),
        (dict(layer=dict(num_heads=0)), 'num_heads=0 must be at least 1'),
        (dict(mask_channels=0), 'mask_channels=0 must be at least 1'),
        (
            dict(
                share_high_res_layers=True,
                high_res_attention=None,
                num_layers=9,
            ),
            'there are no layers to share',
        ),
        (
            dict(
                masked_attention=DECODER['high_res_attention'],
                positional_query=dict(type='mmfaseg.LearnedPositionalQuery'),
            ),
            'in layer 0 uses the attention of level 0',
        ),
        (
            dict(positional_query=dict(embed_dims=8)),
            'positional_query: remove embed_dims; the network sets it',
        ),
        (
            dict(high_res_attention=dict(type=AttentionOnItsOwnLevel)),
            r'coarse_level must be None, 0, 1 or 2.*got \{3\}',
        ),
    ],
)
def test_invalid_values_raise(make_decoder, changes, message):
    with pytest.raises(ValueError, match=message):
        make_decoder(**changes)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(positional_query='dfpq'),
            r"positional_query must be a config.*'dfpq'",
        ),
        (
            dict(positional_query=dict(type='mmfaseg.DenseCrossAttention')),
            r'positional_query: DenseCrossAttention must derive from .*'
            'PositionalQuery',
        ),
        (
            dict(masked_attention=dict(type='mmfaseg.LearnedPositionalQuery')),
            r'masked_attention: LearnedPositionalQuery must derive from',
        ),
        (
            dict(
                high_res_attention=dict(type='mmfaseg.LearnedPositionalQuery')
            ),
            r'high_res_attention: LearnedPositionalQuery must derive from .*'
            'CrossAttention',
        ),
        (
            dict(high_res_attention='hrca'),
            r"high_res_attention must be a config.*'hrca'",
        ),
        (
            dict(positional_query=dict(type=len)),
            r'positional_query: type must be a module class',
        ),
        (
            dict(layer=dict(type=LayerWithoutAttention)),
            r'LayerWithoutAttention must keep its CrossAttention as '
            r'self\.cross_attn',
        ),
    ],
)
def test_parts_without_the_interface_raise(make_decoder, changes, message):
    with pytest.raises(TypeError, match=message):
        make_decoder(**changes)


def test_an_unregistered_part_is_named(make_decoder):
    with pytest.raises(KeyError, match="positional_query: no class 'MyQuery'"):
        make_decoder(positional_query=dict(type='MyQuery'))


def test_a_layer_without_the_requested_attention_raises(
    make_decoder, decoder_inputs
):
    decoder = make_decoder(layer=dict(type=SilentLayer))
    with pytest.raises(ValueError, match=r'shape \(2, 6, 24\), got None'):
        decoder(*decoder_inputs())


class SilentAttention(CrossAttention):
    """Attention to the whole level that never returns its probabilities."""

    def forward(self, query, state, level, need_attention=False):
        output, _ = super().forward(query, state, level)
        return output, None


def test_traced_attention_must_return_its_probabilities(
    make_decoder, decoder_inputs
):
    decoder = make_decoder(high_res_attention=dict(type=SilentAttention))
    decoder(*decoder_inputs())
    with pytest.raises(ValueError, match='SilentAttention, on level 3, was'):
        trace_decoder(decoder, *decoder_inputs())


class WrongQuery(PositionalQuery):
    """Returns a positional query that broadcasting would accept."""

    def __init__(self, embed_dims, change):
        super().__init__(embed_dims)
        self.change = change

    def update(self, state, level, attention):
        return self.change(state.query_pos)


@pytest.mark.parametrize(
    ('change', 'found'),
    [
        (lambda x: x[..., :1], r'\(2, 6, 1\)'),
        (lambda x: x[0], r'\(6, 16\)'),
        (lambda x: None, 'NoneType'),
    ],
)
def test_positional_queries_of_wrong_shape_raise(
    make_decoder, decoder_inputs, change, found
):
    decoder = make_decoder(
        positional_query=dict(type=WrongQuery, change=change)
    )
    message = rf'WrongQuery must return .* \(2, 6, 16\), got {found}'
    with pytest.raises(ValueError, match=message):
        decoder(*decoder_inputs())


def test_the_number_of_levels_must_match(make_decoder, decoder_inputs):
    decoder = make_decoder(high_res_attention=None)
    with pytest.raises(ValueError, match=r'returns 4 levels.* reads 3'):
        decoder(*decoder_inputs())


def test_parts_that_derive_from_base_module_are_initialized(make_decoder):
    class Part(BaseModule):
        def init_weights(self):
            self.is_ready = True

    decoder = make_decoder()
    parents = [decoder.positional_query, *decoder.cross_attentions()]
    for parent in parents:
        parent.part = Part()
    decoder.init_weights()
    assert all(parent.part.is_ready for parent in parents)


def test_tracing_with_checkpointing_and_gradients_raises(
    make_decoder, decoder_inputs
):
    decoder = make_decoder(with_cp=True)
    with pytest.raises(ValueError, match='with_cp=True'):
        trace_decoder(decoder, *decoder_inputs())
    with torch.no_grad():
        assert len(trace_decoder(decoder, *decoder_inputs()).traces) == 13
