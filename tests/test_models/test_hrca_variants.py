"""High-resolution attentions that HRCA is compared with, and its options."""

import copy

import pytest
import torch
from decoder_parts import make_level, make_state

from mmfaseg.models.layers import (
    HighResolutionCrossAttention,
    PerQueryWindowAttention,
)
from mmfaseg.testing import assert_close
from mmfaseg.visualization.decoder_trace import trace_decoder

HRCA = dict(type='mmfaseg.HighResolutionCrossAttention', omega=8)
DENSE = dict(type='mmfaseg.DenseCrossAttention')
PER_QUERY = dict(type='mmfaseg.PerQueryWindowAttention', omega=4)
QUERIES = [
    dict(type=f'mmfaseg.{name}')
    for name in (
        'AnchorPositionalQuery',
        'NoPositionalQuery',
        'LearnedPositionalQuery',
    )
]


def _last(decoder, inputs):
    output = decoder(*inputs)
    return output.cls_scores[-1], output.mask_preds[-1]


def _pair(make_decoder, first, second):
    """Two decoders with the same weights."""
    one, two = make_decoder(**first), make_decoder(**second)
    two.load_state_dict(one.state_dict())
    return one, two


def _assert_same(one, two, inputs):
    for x, y in zip(_last(one, inputs), _last(two, inputs), strict=True):
        assert_close(x, y)


def _assert_differ(one, two, inputs):
    a, b = _last(one, inputs)[0], _last(two, inputs)[0]
    assert (a - b).abs().max() > 1e-6


@pytest.mark.parametrize('size', [(128, 192), (100, 68), (33, 97)])
def test_dense_attention_equals_hrca_with_all_windows(
    make_decoder, decoder_inputs, size
):
    one, two = _pair(
        make_decoder,
        dict(high_res_attention=dict(omega=1)),
        dict(high_res_attention=DENSE),
    )
    inputs = decoder_inputs(2, *size)
    _assert_same(one, two, inputs)
    if size == (128, 192):
        few = make_decoder()
        few.load_state_dict(one.state_dict())
        _assert_differ(one, few, inputs)


@pytest.mark.parametrize('size', [(128, 192), (100, 68)])
def test_choice_per_query_equals_hrca_for_a_single_query(
    make_decoder, decoder_inputs, size
):
    one, two = _pair(
        make_decoder,
        dict(num_queries=1, high_res_attention=dict(omega=4)),
        dict(num_queries=1, high_res_attention=PER_QUERY),
    )
    _assert_same(one, two, decoder_inputs(2, *size))


def test_every_query_chooses_its_own_windows(make_decoder, decoder_inputs):
    decoder = make_decoder(high_res_attention=PER_QUERY)
    output = trace_decoder(decoder, *decoder_inputs())
    for layer in (3, 7, 11):
        index = output.traces[layer].window_index
        attention = output.traces[layer - 3].attention
        assert torch.equal(index, attention.topk(24 // 4, dim=2).indices)
    assert (index[:, 0] != index[:, 1]).any()


def test_a_query_attends_to_its_own_windows_only():
    """Compared with HRCA for one query at a time."""
    per_query = PerQueryWindowAttention(16, 2, omega=4).double()
    plain = HighResolutionCrossAttention(16, 2, omega=4).double()
    plain.load_state_dict(per_query.state_dict())
    maps = torch.randn(2, 1, 16, 25, 17, dtype=torch.float64)
    level = make_level(*maps, index=3, window_grid=(4, 3))
    query, embed = torch.randn(2, 1, 5, 16, dtype=torch.float64)
    attention = torch.rand(1, 5, 4, 3, dtype=torch.float64)
    state = make_state(embed, coarse_attention=attention)
    output, spread = per_query(query, state, level, need_attention=True)
    windows = per_query.select_windows(state, level)
    for q in range(5):
        part = slice(q, q + 1)
        alone = make_state(embed[:, part], coarse_attention=attention[:, part])
        expected, wanted = plain(
            query[:, part], alone, level, need_attention=True
        )
        assert_close(output[:, part], expected)
        assert_close(spread[:, part], wanted)
        chosen = plain.select_windows(alone, level)
        assert torch.equal(windows[:, q], chosen)


@pytest.mark.parametrize(('stride', 'level'), [(32, 0), (16, 1), (8, 2)])
def test_importance_stride_selects_the_layer_that_chooses_windows(
    make_decoder, decoder_inputs, stride, level
):
    decoder = make_decoder(high_res_attention=dict(importance_stride=stride))
    output = trace_decoder(
        decoder, *decoder_inputs(2, 100, 164)
    )  # cut windows
    for layer in (3, 7, 11):
        source = output.traces[layer - 3 + level]
        assert source.level == level
        height, width = source.shape
        cells = torch.zeros(2, 4, 6, dtype=torch.float64)
        scores = source.attention.sum(1).unflatten(1, source.shape)
        for y in range(height):
            for x in range(width):
                cells[:, y >> level, x >> level] += scores[:, y, x]
        expected = cells.flatten(1).topk(24 // 8, dim=1).indices
        assert torch.equal(output.traces[layer].window_index, expected)
        assert_close(output.traces[layer].importance, cells)


@pytest.mark.parametrize('attention', [HRCA, PER_QUERY])
@pytest.mark.parametrize('window_size', [16, 4])
def test_windows_that_do_not_fit_the_map_raise(
    make_decoder, decoder_inputs, attention, window_size
):
    decoder = make_decoder(
        high_res_attention=dict(attention, window_size=window_size)
    )
    with pytest.raises(ValueError, match='do not cover a map of'):
        decoder(*decoder_inputs())


def test_without_high_res_attention_nothing_reads_stride_4(
    make_decoder, decoder_inputs
):
    memories, positions, features = decoder_inputs()
    decoder = make_decoder(high_res_attention=None, num_layers=9)
    output = trace_decoder(decoder, memories[:3], positions[:3], features)
    assert [x.level for x in output.traces] == [0, 1, 2] * 3
    assert len(output.cls_scores) == 10
    assert decoder.level_embed.weight.shape == (3, 16)


def test_shared_layers_have_one_set_of_parameters(
    make_decoder, decoder_inputs
):
    plain = make_decoder()
    shared = make_decoder(share_high_res_layers=True)
    layer = sum(x.numel() for x in plain.layers['3'].parameters())
    count = [sum(x.numel() for x in y.parameters()) for y in (plain, shared)]
    assert count[0] - count[1] == 2 * layer
    # averages and checkpoints see every parameter once, other names stay
    assert len(shared.state_dict()) == len(dict(shared.named_parameters()))
    absent = set(plain.state_dict()) - set(shared.state_dict())
    assert {x.split('.')[1] for x in absent} == {'7', '11'}
    for key in ('7', '11'):
        plain.layers[key].load_state_dict(plain.layers['3'].state_dict())
    found = shared.load_state_dict(plain.state_dict(), strict=False)
    assert found.missing_keys == []
    _assert_same(plain, shared, decoder_inputs())
    copied = copy.deepcopy(shared)
    with torch.no_grad():
        shared.layers['3'].ffn[0].weight.zero_()
    _assert_same(plain, copied, decoder_inputs())
    _assert_differ(plain, shared, decoder_inputs())


@pytest.mark.parametrize(
    'changes',
    [
        *(dict(positional_query=query) for query in QUERIES),
        dict(positional_query=dict(init_pool='learned')),
        dict(high_res_attention=DENSE),
        dict(high_res_attention=PER_QUERY),
        dict(high_res_attention=dict(importance_stride=8)),
        dict(share_high_res_layers=True),
        dict(num_layers=4),
    ],
    ids=lambda x: '-'.join(map(str, x.values())),
)
@pytest.mark.parametrize('size', [(64, 96), (36, 68)])
def test_every_weight_gets_a_gradient_and_evaluation_equals_training(
    make_decoder, decoder_inputs, changes, size
):
    decoder, inputs = make_decoder(**changes), decoder_inputs(2, *size)
    trained = decoder(*inputs)
    total = trained.mask_preds.stack().square().sum()
    (total + sum(x.square().sum() for x in trained.cls_scores)).backward()
    missing = [k for k, x in decoder.named_parameters() if x.grad is None]
    assert missing == []
    evaluated = decoder.eval()(*inputs)
    assert_close(evaluated.mask_preds[-1], trained.mask_preds[-1])
    assert_close(evaluated.cls_scores[-1], trained.cls_scores[-1])
