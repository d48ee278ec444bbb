import pytest
import torch
import torch.nn.functional as F

from mmfaseg.models.layers import (
    HighResolutionCrossAttention,
    MaskedCrossAttention,
    MaskPredictions,
)
from mmfaseg.testing import assert_close

HIGH_RESOLUTION_BLOCKS = (3, 7, 11)


@pytest.fixture
def spied(make_decoder, decoder_inputs):
    """A decoder, its inputs, its output and what every block was given."""
    decoder = make_decoder()
    calls = []
    for layer in decoder.layers:
        layer.register_forward_hook(
            lambda _, args, result: calls.append((*args, result)),
        )
    memories, positions, mask_features = decoder_inputs()
    inputs = memories, positions, 10 * mask_features  # clear-cut masks
    return decoder, inputs, decoder(*inputs, trace=True), calls


def test_blocks_walk_through_the_levels(spied):
    decoder, _, output, _ = spied
    assert [x.level for x in output.traces] == [0, 1, 2, 3] * 3 + [0]
    assert [x.shape for x in output.traces[:4]] == [
        (4, 6),
        (8, 12),
        (16, 24),
        (32, 48),
    ]
    for block, layer in enumerate(decoder.layers):
        kind = (
            HighResolutionCrossAttention
            if block in HIGH_RESOLUTION_BLOCKS
            else MaskedCrossAttention
        )
        assert type(layer.cross_attn) is kind


def test_predictions_are_made_before_and_after_every_block(spied):
    decoder, (_, _, mask_features), output, calls = spied
    assert len(output.cls_scores) == len(output.mask_preds) == 14
    queries = [calls[0][0], *(call[-1][0] for call in calls)]
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
    for block in (1, 2, 5, 6, 9, 10):
        level = (block - 1) % 4
        attention = output.traces[block - 1].attention
        focus = attention @ positions[level].flatten(2).transpose(1, 2)
        expected = decoder.positional_query.mlp(focus + static)
        assert_close(calls[block][1], expected)  # cross-attention
        assert_close(calls[block][2], expected)  # self-attention


def test_first_positional_query_pools_the_background(spied):
    decoder, (_, positions, mask_features), output, calls = spied
    static = decoder.query_embed.weight.expand(2, -1, -1)
    mask = F.interpolate(output.mask_preds[0], (4, 6), mode='bilinear')
    background = (mask.sigmoid() < 0.5).double().flatten(2)
    mean = background @ positions[0].flatten(2).transpose(1, 2)
    mean = mean / (background.sum(-1, keepdim=True) + 1e-6)
    expected = decoder.positional_query.mlp(mean + static)
    assert_close(calls[0][1], expected)
    assert_close(calls[0][2], calls[0][1])


@pytest.mark.parametrize('block', HIGH_RESOLUTION_BLOCKS)
def test_dynamic_query_passes_a_high_resolution_block_unchanged(spied, block):
    decoder, (_, positions, _), output, calls = spied
    static = decoder.query_embed.weight.expand(2, -1, -1)
    attention = output.traces[block - 1].attention
    focus = attention @ positions[2].flatten(2).transpose(1, 2)
    dynamic = decoder.positional_query.mlp(focus + static)
    assert_close(calls[block][1], static)  # its cross-attention: static
    assert_close(calls[block][2], dynamic)  # its self-attention: dynamic
    assert_close(calls[block + 1][1], dynamic)  # and so the next block


def test_windows_are_those_the_latest_stride_32_block_looked_at(spied):
    _, _, output, _ = spied
    for block in HIGH_RESOLUTION_BLOCKS:
        trace = output.traces[block]
        scores = output.traces[block - 3].attention.sum(1)
        expected = scores.topk(24 // 8, dim=1).indices
        assert torch.equal(trace.window_index, expected)
        assert trace.window_grid == (4, 6)
        assert trace.window_size == 8


def test_blocked_pixels_come_from_the_latest_mask(spied):
    decoder, _, output, calls = spied
    for block in (0, 1, 2, 4, 12):
        trace = output.traces[block]
        mask = F.interpolate(
            output.mask_preds[block], trace.shape, mode='bilinear'
        )
        blocked = mask.sigmoid().flatten(2) < 0.15
        blocked[blocked.all(-1)] = False
        assert torch.equal(calls[block][4], blocked)
        assert blocked.any(), 'the case must block something'
        assert (trace.attention[blocked] == 0).all()


def test_positions_go_into_keys_only(spied):
    decoder, (memories, positions, _), _, calls = spied
    for block, (_, _, _, memory, *_) in enumerate(calls):
        level = block % 4
        embed = decoder.level_embed.weight[level]
        if level == 3:
            assert memory.feature is memories[3]
            assert memory.position is positions[3]
            assert torch.equal(memory.level_embed, embed)
            continue
        value = memories[level] + embed[:, None, None]
        key = value + positions[level]
        assert_close(memory.value, value.flatten(2).transpose(1, 2))
        assert_close(memory.key, key.flatten(2).transpose(1, 2))


def test_a_wholly_blocked_row_is_opened(make_decoder):
    decoder = make_decoder()
    mask = torch.full((1, 2, 2, 2), -9.0)
    mask[0, 1, 0, 0] = 9
    blocked = decoder._blocked_pixels(torch.eye(2)[None], mask)
    assert blocked[0].tolist() == [[False] * 4, [False, True, True, True]]


@pytest.mark.parametrize('size', [(128, 192), (100, 68), (33, 97)])
def test_masks_of_a_level_are_the_resized_masks(
    make_decoder, decoder_inputs, size
):
    """Reducing the features first is the plain path's resize of the masks."""
    decoder = make_decoder()
    memories, _, features = decoder_inputs(2, *size)
    shapes = [tuple(x.shape[2:]) for x in memories]
    embed = torch.randn(2, 6, 16, dtype=torch.float64)
    masks = MaskPredictions(embed[None], features)[0]
    reduced = decoder._reduce_mask_features(features, shapes)
    assert len(reduced) == 3
    for x, shape in zip(reduced, shapes, strict=False):
        plain = F.interpolate(masks, shape, mode='bilinear').sigmoid()
        fast = decoder._mask_probability(embed, x)
        torch.testing.assert_close(fast, plain, atol=1e-9, rtol=0)


def test_stacked_masks_are_those_read_one_by_one():
    embeds = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    features = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    masks = MaskPredictions(embeds, features)
    expected = torch.einsum('dbqc,bchw->dbqhw', embeds, features)
    assert len(masks) == 3
    assert_close(masks.stack(), expected)
    assert_close(torch.stack(list(masks)), expected)
    assert_close(torch.stack(masks[1:]), expected[1:])
    assert_close(masks[-1], expected[-1])
    assert_close(masks.pixels(1), expected[1].permute(0, 2, 3, 1))


def test_checkpointing_changes_no_gradient(make_decoder, decoder_inputs):
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        decoder = make_decoder(with_cp=with_cp)
        runs = []
        decoder.layers[0].ffn.register_forward_hook(
            lambda *_, runs=runs: runs.append(1)
        )
        output = decoder(*decoder_inputs())
        (output.mask_preds.stack() ** 2).sum().backward()
        gradients = [x.grad for x in decoder.parameters()]
        results.append([x for x in gradients if x is not None])
        assert len(runs) == 1 + with_cp, 'blocks must run again'
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
        embed_dims=4, num_blocks=5, num_queries=2, feedforward_channels=8
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
    first = decoder.layers[0].ffn[0].weight
    assert first.grad.abs().sum() > 0, 'blocks must be connected'


def test_evaluation_gives_the_last_prediction_of_training(
    make_decoder, decoder_inputs
):
    decoder, inputs = make_decoder(), decoder_inputs()
    trained = decoder(*inputs)
    evaluated = decoder.eval()(*inputs)
    assert len(evaluated.cls_scores) == len(evaluated.mask_preds) == 1
    assert evaluated.traces == []
    assert_close(evaluated.cls_scores[0], trained.cls_scores[-1])
    assert_close(evaluated.mask_preds[0], trained.mask_preds[-1])


def test_evaluation_forms_only_masks_that_are_read(
    make_decoder, decoder_inputs
):
    """14 predictions, less those right before the three HRCA blocks."""
    decoder, inputs = make_decoder(), decoder_inputs()
    calls = []
    decoder.predictor.mask_embed.register_forward_hook(
        lambda *_: calls.append(1)
    )
    decoder(*inputs)
    assert len(calls) == 14
    calls.clear()
    decoder.eval()(*inputs)
    assert len(calls) == 14 - 3


def test_tracing_changes_nothing(make_decoder, decoder_inputs):
    decoder, inputs = make_decoder(), decoder_inputs()
    plain, traced = decoder(*inputs), decoder(*inputs, trace=True)
    assert_close(plain.mask_preds[-1], traced.mask_preds[-1])
    assert_close(plain.cls_scores[-1], traced.cls_scores[-1])


def test_pictures_of_a_batch_do_not_mix(make_decoder, decoder_inputs):
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
    'arguments',
    [dict(num_blocks=3), dict(mask_threshold=1.0), dict(num_heads=3)],
)
def test_bad_arguments_are_named(make_decoder, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        make_decoder(**arguments)
