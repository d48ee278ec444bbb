"""What each rival means, and that the switches meet where they should."""

import copy
from itertools import product

import pytest
import torch
from mmdet.models.layers import SinePositionalEncoding as MMDetSine

from mmfaseg.models.layers import (
    AnchorQuery,
    DynamicFocusAwareQuery,
    LearnedPositionalEncoding,
    NoPositionalQuery,
    ParameterizedQuery,
    SinePositionalEncoding,
)
from mmfaseg.models.layers.hrca import window_importance
from mmfaseg.models.layers.mask_boxes import mask_boxes
from mmfaseg.models.layers.positional_encoding import make_positional_encoding
from mmfaseg.testing import assert_close

B, Q, C, H, W = 2, 3, 8, 4, 5


@pytest.fixture
def static():
    return torch.randn(B, Q, C, dtype=torch.float64)


@pytest.fixture
def position():
    return torch.randn(B, C, H, W, dtype=torch.float64)


def _masks(*shape):
    return torch.rand(*(shape or (B, Q, H, W)), dtype=torch.float64)


def _last(decoder, inputs, **kwargs):
    output = decoder(*inputs, **kwargs)
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


# stride 4


@pytest.mark.parametrize('size', [(128, 192), (100, 68), (33, 97)])
def test_dense_is_hrca_with_all_windows(make_decoder, decoder_inputs, size):
    one, two = _pair(
        make_decoder, dict(omega=1), dict(high_resolution='dense')
    )
    inputs = decoder_inputs(2, *size)
    _assert_same(one, two, inputs)
    if size == (128, 192):
        few = make_decoder(omega=8)
        few.load_state_dict(one.state_dict())
        _assert_differ(one, few, inputs)


@pytest.mark.parametrize('size', [(128, 192), (100, 68)])
def test_choice_per_query_is_that_per_picture_for_a_single_query(
    make_decoder, decoder_inputs, size
):
    kwargs = dict(num_queries=1, omega=4)
    one, two = _pair(
        make_decoder, kwargs, kwargs | dict(high_resolution='hrca_per_query')
    )
    _assert_same(one, two, decoder_inputs(2, *size))


def test_every_query_reads_windows_of_its_own(make_decoder, decoder_inputs):
    decoder = make_decoder(high_resolution='hrca_per_query', omega=4)
    output = decoder(*decoder_inputs(), trace=True)
    for block in (3, 7, 11):
        index = output.traces[block].window_index
        attention = output.traces[block - 3].attention
        assert torch.equal(index, attention.topk(24 // 4, dim=2).indices)
    assert (index[:, 0] != index[:, 1]).any()


def test_a_query_sees_nothing_but_its_windows(make_decoder, decoder_inputs):
    """Against one query at a time, each with the importance of its own."""
    make = dict(high_resolution='hrca_per_query', omega=4)
    layer = make_decoder(**make).layers[3].cross_attn
    plain = make_decoder(omega=4).layers[3].cross_attn
    plain.load_state_dict(layer.state_dict())
    memories, positions, _ = decoder_inputs(1, 100, 68)
    levels = make_decoder(**make)._add_level_embeddings(memories, positions)
    query = torch.randn(1, 5, 16, dtype=torch.float64)
    importance = _masks(1, 5, 4, 3)
    output, focus = layer(query, levels[3], importance)
    for q in range(5):
        alone, chosen = plain(query[:, q : q + 1], levels[3], importance[:, q])
        assert_close(output[:, q : q + 1], alone)
        assert torch.equal(focus.index[:, q], chosen.index)
        assert_close(focus.attention[:, q : q + 1], chosen.attention)


@pytest.mark.parametrize(('stride', 'level'), [(32, 0), (16, 1), (8, 2)])
def test_windows_are_chosen_by_the_stride_that_is_asked_for(
    make_decoder, decoder_inputs, stride, level
):
    decoder = make_decoder(importance_stride=stride)
    output = decoder(*decoder_inputs(2, 100, 164), trace=True)  # cut windows
    for block in (3, 7, 11):
        source = output.traces[block - 3 + level]
        assert source.level == level
        height, width = source.shape
        cells = torch.zeros(2, 4, 6, dtype=torch.float64)
        scores = source.attention.sum(1).unflatten(1, source.shape)
        for y in range(height):
            for x in range(width):
                cells[:, y >> level, x >> level] += scores[:, y, x]
        expected = cells.flatten(1).topk(24 // 8, dim=1).indices
        assert torch.equal(output.traces[block].window_index, expected)
        assert output.traces[block].importance_level == level


def test_maps_that_windows_do_not_cover_are_refused(
    make_decoder, decoder_inputs
):
    """The ratio of strides is not the window size, or sizes are floored."""
    cases = product(
        ('hrca', 'hrca_per_query'), ((16, 'do not fit'), (4, 'do not cover'))
    )
    for kind, (side, message) in cases:
        decoder = make_decoder(high_resolution=kind, window_size=side)
        with pytest.raises(ValueError, match=message):
            decoder(*decoder_inputs())
    with pytest.raises(ValueError, match=r'do not cover.*\(9, 9\)'):
        window_importance(torch.ones(1, 2, 81), (9, 9), (4, 4), 2)


def test_importance_of_a_window_is_the_sum_of_its_pixels():
    attention = torch.ones(1, 2, 3 * 5)
    assert window_importance(attention, (3, 5), (2, 3), 2).tolist() == [
        [[8, 8, 4], [4, 4, 2]]
    ]
    per_query = window_importance(attention, (3, 5), (2, 3), 2, True)
    assert per_query.shape == (1, 2, 2, 3)
    assert per_query[0, 0].tolist() == [[4, 4, 2], [2, 2, 1]]


def test_nothing_reads_stride_4_when_it_is_off(make_decoder, decoder_inputs):
    memories, positions, features = decoder_inputs()
    decoder = make_decoder(high_resolution='off', num_blocks=9)
    output = decoder(memories[:3], positions[:3], features, trace=True)
    assert [x.level for x in output.traces] == [0, 1, 2] * 3
    assert len(output.cls_scores) == 10
    assert decoder.level_embed.weight.shape == (3, 16)


def test_shared_blocks_are_one_set_of_parameters(make_decoder, decoder_inputs):
    plain = make_decoder()
    shared = make_decoder(share_hrca_params=True)
    block = sum(x.numel() for x in plain.layers[3].parameters())
    count = [sum(x.numel() for x in y.parameters()) for y in (plain, shared)]
    assert count[0] - count[1] == 2 * block
    # averages and checkpoints see every parameter once, by the old names
    assert len(shared.state_dict()) == len(dict(shared.named_parameters()))
    absent = set(plain.state_dict()) - set(shared.state_dict())
    assert {x.split('.')[1] for x in absent} == {'7', '11'}
    # the same function, as long as all three have the same weights
    for number in (7, 11):
        plain.layers[number].load_state_dict(plain.layers[3].state_dict())
    found = shared.load_state_dict(plain.state_dict(), strict=False)
    assert found.missing_keys == []
    _assert_same(plain, shared, decoder_inputs())
    copied = copy.deepcopy(shared)
    with torch.no_grad():
        shared.layers[3].ffn[0].weight.zero_()
    _assert_same(plain, copied, decoder_inputs())
    _assert_differ(plain, shared, decoder_inputs())


# positional queries


def test_parameterized_and_none(static, position):
    for kind in (ParameterizedQuery, NoPositionalQuery):
        query = kind()
        assert list(query.parameters()) == []
        assert query.initial(static, position, _masks()) is static
        assert query.update(static, position, None) is static


def test_without_positional_queries_blocks_get_zeros(
    make_decoder, decoder_inputs
):
    decoder = make_decoder(positional_query='none')
    assert not [x for x, _ in decoder.named_parameters() if 'query_embed' in x]
    output = decoder(*decoder_inputs(), trace=True)
    assert all((x.query_pos == 0).all() for x in output.traces)


def test_parameterized_queries_are_the_same_in_all_blocks(
    make_decoder, decoder_inputs
):
    decoder = make_decoder(positional_query='parameterized')
    output = decoder(*decoder_inputs(), trace=True)
    static = decoder.query_embed.weight.expand(2, -1, -1)
    assert all(torch.equal(x.query_pos, static) for x in output.traces)


def test_learned_pool_is_the_learned_part_alone(static, position):
    query = DynamicFocusAwareQuery(C, 'learned').double()
    result = query.initial(static, position, _masks())
    assert_close(result, query.mlp(static))


def test_box_of_a_rectangle_is_the_rectangle():
    masks = torch.zeros(1, 3, 10, 20, dtype=torch.float64)
    masks[0, 0, 2:6, 5:15] = 1
    masks[0, 1, 9, 0] = 0.25  # a pixel, however sure
    boxes = mask_boxes(masks)[0]
    expected = [[0.5, 0.4, 0.5, 0.4], [0.025, 0.95, 0.05, 0.1]]
    assert_close(boxes[:2], torch.tensor(expected, dtype=torch.float64))
    assert boxes[2, :2].tolist() == [0.5, 0.5]  # nothing: the middle
    assert boxes.isfinite().all()
    assert mask_boxes(masks.half()).dtype == torch.float32


def test_anchor_reads_the_masks_and_nothing_else(static, position):
    query = AnchorQuery(C).double()
    masks = _masks().requires_grad_()
    result = query.update(static, position, None, lambda: masks)
    assert_close(result, query.initial(static, position * 0, masks))
    assert not torch.equal(result, query.initial(static, position, _masks()))
    result.sum().backward()
    assert masks.grad is None


def test_anchors_come_from_the_latest_prediction(make_decoder, decoder_inputs):
    decoder = make_decoder(positional_query='anchor')
    inputs = decoder_inputs()
    output = decoder(*inputs, trace=True)
    static = decoder.query_embed.weight.expand(2, -1, -1)
    for block, level in ((1, 0), (2, 1), (5, 0), (12, 2)):
        # the block before it, or before the stride-4 block between them
        number = block if level == (block - 1) % 4 else block - 1
        masks = torch.nn.functional.interpolate(
            output.mask_preds[number],
            inputs[0][level].shape[2:],
            mode='bilinear',
        )
        expected = decoder.positional_query.initial(
            static, None, masks.sigmoid()
        )
        assert_close(output.traces[block].query_pos, expected)
    evaluated = decoder.eval()(*inputs)
    assert_close(evaluated.mask_preds[-1], output.mask_preds[-1])


# K_p


@pytest.mark.parametrize('size', [(4, 6), (1, 1), (33, 17)])
def test_sine_encoding_is_that_of_mmdet(size):
    theirs = MMDetSine(num_feats=8, normalize=True)
    expected = theirs(torch.zeros(2, *size, dtype=torch.bool))
    found = SinePositionalEncoding(16)(torch.zeros(2, 16, *size))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_learned_encoding_is_resized(position):
    encoding = LearnedPositionalEncoding(C, size=6).double()
    found = encoding(torch.zeros(3, C, 12, 9, dtype=torch.float64))
    assert found.shape == (3, C, 12, 9)
    expected = torch.nn.functional.interpolate(
        encoding.learned_pos_embed,
        (12, 9),
        mode='bicubic',
        align_corners=False,
    )
    assert_close(found[2:], expected)
    same = encoding(torch.zeros(1, C, 6, 6, dtype=torch.float64))
    assert_close(same, encoding.learned_pos_embed)


# all of them


@pytest.mark.parametrize(
    'switches',
    [
        dict(positional_query='anchor'),
        dict(positional_query='none'),
        dict(positional_query='parameterized'),
        dict(initial_pool='learned'),
        dict(high_resolution='dense'),
        dict(high_resolution='hrca_per_query'),
        dict(importance_stride=8),
        dict(share_hrca_params=True),
        dict(num_blocks=4),
    ],
    ids=lambda x: '-'.join(map(str, x.values())),
)
@pytest.mark.parametrize('size', [(64, 96), (36, 68)])
def test_evaluation_gives_the_last_prediction_and_every_weight_learns(
    make_decoder, decoder_inputs, switches, size
):
    decoder, inputs = make_decoder(**switches), decoder_inputs(2, *size)
    trained = decoder(*inputs)
    total = trained.mask_preds.stack().square().sum()
    (total + sum(x.square().sum() for x in trained.cls_scores)).backward()
    missing = [k for k, x in decoder.named_parameters() if x.grad is None]
    assert missing == []
    evaluated = decoder.eval()(*inputs)
    assert_close(evaluated.mask_preds[-1], trained.mask_preds[-1])
    assert_close(evaluated.cls_scores[-1], trained.cls_scores[-1])


@pytest.mark.parametrize(
    'arguments',
    [
        dict(high_resolution='windows'),
        dict(positional_query='conditional'),
        dict(importance_stride=4),
        dict(num_blocks=2, high_resolution='off'),
    ],
)
def test_unknown_switches_are_named(make_decoder, arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f'{name}.*{value}'):
        make_decoder(**arguments)


def test_unknown_encoding_is_named():
    with pytest.raises(ValueError, match=r"'conditional'.*'cosine'"):
        make_positional_encoding('cosine', 16)
    with pytest.raises(ValueError, match='embed_dims=6'):
        SinePositionalEncoding(6)
    with pytest.raises(ValueError, match='embed_dims=12'):
        AnchorQuery(12)
