"""Initialization from Mask2Former keeps the function of its parts."""

import pytest
import torch
from decoder_parts import SINE, make_level, make_state

from mmfaseg.checkpoints import (
    ConversionError,
    detect_format,
    from_mask2former,
    to_faseg,
)
from mmfaseg.models.layers.mask_predictor import multiply_masks
from mmfaseg.testing import make_pyramid

MMSEG = 'mmseg-mask2former'
DECODER = 'decode_head.transformer_decoder.'
NONE = dict(type='mmfaseg.NoPositionalQuery')


@pytest.fixture
def pair(build_mask2former, build_faseg_like_mask2former, shapes_of):
    """A Mask2Former and an mmfaseg model initialized from it."""
    peer, ours = build_mask2former(), build_faseg_like_mask2former()
    state = peer.state_dict()
    assert detect_format(state) == MMSEG
    conversion = from_mask2former(state, shapes_of(ours), MMSEG)
    missing, unexpected = ours.load_state_dict(conversion.state, strict=False)
    assert missing == conversion.missing_keys
    assert not unexpected
    return peer.double().eval(), ours.double().eval(), conversion


def test_every_entry_of_mask2former_is_used(pair):
    peer, _, conversion = pair
    assert [x.source for x in conversion.entries] == list(peer.state_dict())
    assert all(x.target is not None for x in conversion.entries)
    ends = {name.split('.')[2] for name in conversion.missing_keys}
    assert ends == {
        'input_projs',
        'positional_encodings',
        'positional_query',
        'layers',
    }
    layers = {
        int(name.removeprefix(DECODER + 'layers.').split('.')[0])
        for name in conversion.missing_keys
        if name.startswith(DECODER + 'layers.')
    }
    assert layers == {3, 7, 11, 12}


def test_pixel_decoder_outputs_are_equal(pair):
    """With Mask2Former's sine encoding in place of K_p."""
    peer, ours, _ = pair
    feats = make_pyramid(2, (64, 128, 256, 512), 64, 96)
    theirs, decoder = peer.decode_head.pixel_decoder, ours.decode_head
    decoder = decoder.pixel_decoder
    with torch.no_grad():
        expected, memories = theirs(feats)
        sine = [
            theirs.postional_encoding(
                torch.zeros(2, *x.shape[2:], dtype=torch.bool)
            ).double()
            for x in reversed(feats)
        ]
        for encode, encoding in zip(
            decoder.positional_encodings, sine, strict=True
        ):
            encode.forward = lambda feature, encoding=encoding: encoding
        found, _, mask_features = decoder(feats)
    for wanted, memory in zip(memories, found[:3], strict=True):
        torch.testing.assert_close(memory, wanted, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(mask_features, expected, rtol=1e-6, atol=1e-7)


def test_mask2former_config_equals_mmseg(
    build_mask2former, build_faseg_like_mask2former, shapes_of
):
    """Outputs with the same weights and the settings of Mask2Former."""
    peer = build_mask2former()
    ours = build_faseg_like_mask2former(
        transformer_decoder=dict(
            positional_query=dict(type='mmfaseg.LearnedPositionalQuery'),
            high_res_attention=None,
            num_layers=9,
            masked_attention=dict(mask_threshold=0.5),
        ),
        pixel_decoder=dict(positional_encoding=SINE),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, x in peer.named_parameters():
            # different masks and scores for each query
            if x.dim() > 1:
                torch.nn.init.normal_(x, std=1.0 / x[0].numel() ** 0.5)
            else:
                torch.nn.init.normal_(x, float(name.endswith('weight')), 0.1)
    conversion = from_mask2former(peer.state_dict(), shapes_of(ours), MMSEG)
    assert conversion.missing_keys == []
    assert all(x.target is not None for x in conversion.entries)
    ours.load_state_dict(conversion.state)
    peer, ours = peer.double().eval(), ours.double().eval()
    image = torch.randn(2, 3, 96, 128, dtype=torch.float64)
    meta = [dict(img_shape=(96, 128)) for _ in image]
    blocked = []
    for attention in ours.decode_head.transformer_decoder.cross_attentions():
        attention.register_forward_pre_hook(
            lambda attention, args: blocked.append(
                attention.blocked_pixels(*args[1:3]).double().mean()
            )
        )
    with torch.no_grad():
        expected = peer.encode_decode(image, meta)
        found = ours.encode_decode(image, meta)
    assert len(blocked) == 9
    assert 0.05 < torch.stack(blocked).mean() < 0.95, 'masks must block'
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ('changes', 'layers'),
    [
        (dict(high_res_attention=None, num_layers=10), {9}),
        (dict(high_res_attention=None, num_layers=13), {9, 10, 11, 12}),
        (dict(positional_query=NONE), {3, 7, 11, 12}),
    ],
)
def test_variants_are_initialized(
    build_mask2former,
    build_faseg_like_mask2former,
    shapes_of,
    changes,
    layers,
):
    ours = build_faseg_like_mask2former(
        transformer_decoder=changes,
        pixel_decoder=dict(positional_encoding=SINE),
    )
    peer = build_mask2former().state_dict()
    conversion = from_mask2former(peer, shapes_of(ours), MMSEG)
    start = DECODER + 'layers.'
    assert layers == {
        int(name.removeprefix(start).split('.')[0])
        for name in conversion.missing_keys
        if name.startswith(start)
    }
    dropped = [x.source for x in conversion.entries if x.target is None]
    without = NONE in changes.values()
    assert dropped == ['decode_head.query_embed.weight'] * without


@pytest.mark.parametrize(
    ('theirs', 'ours'), [(0, 0), (2, 2), (3, 4), (5, 6), (6, 8), (8, 10)]
)
def test_layer_outputs_are_equal(pair, theirs, ours):
    peer, model, _ = pair
    torch.manual_seed(0)
    query, query_pos = torch.randn(2, 2, 20, 128).double()
    memory, position = torch.randn(2, 2, 24, 128).double()
    blocked = torch.rand(2, 20, 24) < 0.3
    with torch.no_grad():
        expected = peer.decode_head.transformer_decoder.layers[theirs](
            query=query,
            key=memory,
            value=memory,
            query_pos=query_pos,
            key_pos=position,
            cross_attn_mask=blocked.repeat_interleave(8, 0),
        )
        decoder = model.decode_head.transformer_decoder
        maps = [
            x.transpose(1, 2).unflatten(2, (4, 6)) for x in (memory, position)
        ]
        masks = torch.where(blocked, 0.01, 0.99).unflatten(2, (4, 6)).double()
        level = make_level(*maps, masks=masks)
        identity = torch.eye(20).double().expand(2, -1, -1)
        state = make_state(query_pos / 2, identity)
        actual, _ = decoder.layers[str(ours)](query, state, level)
    torch.testing.assert_close(actual, expected)
    embed = decoder.level_embed.weight[ours % 4]
    wanted = peer.decode_head.level_embed.weight[theirs % 3]
    assert torch.equal(embed, wanted)


def test_predictions_are_equal(pair):
    peer, ours, _ = pair
    torch.manual_seed(0)
    query, features = torch.randn(2, 20, 128), torch.randn(2, 128, 8, 8)
    query, features = query.double(), features.double()
    head, decoder = peer.decode_head, ours.decode_head.transformer_decoder
    with torch.no_grad():
        logits, masks, _ = head._forward_head(query, features, (4, 4))
        predictor = decoder.predictor
        torch.testing.assert_close(predictor.classify(query), logits)
        embeds = predictor.embed(query)
        torch.testing.assert_close(multiply_masks(embeds, features), masks)
    for name in ('query_feat', 'query_embed'):
        ours, theirs = getattr(decoder, name), getattr(head, name)
        assert torch.equal(ours.weight, theirs.weight)


def test_detectron2_keys_give_the_same_state(
    build_faseg_like_mask2former, shapes_of
):
    """The names of the authors, with nine layers and three levels."""
    model = build_faseg_like_mask2former()
    shapes = shapes_of(model)
    state = to_faseg(model.state_dict(), shapes).state
    own = ('adapt_pos2d', 'pos_linear', 'input_proj.3')
    own += tuple(f'_layers.{i}.' for i in (9, 10, 11, 12))
    nine = {k: x for k, x in state.items() if not any(y in k for y in own)}
    embed = 'sem_seg_head.predictor.level_embed.weight'
    nine[embed] = nine[embed][:3]
    assert detect_format(nine) == 'mask2former'
    found = from_mask2former(nine, shapes, 'mask2former').state
    ours = model.state_dict()
    for source, target in ((2, 2), (3, 4), (8, 10)):
        name = DECODER + 'layers.{}.ffn.0.weight'
        assert torch.equal(
            found[name.format(target)], ours[name.format(source)]
        )
    embed = found[DECODER + 'level_embed.weight']
    assert torch.equal(embed[:3], ours[DECODER + 'level_embed.weight'][:3])
    assert torch.equal(embed[3], embed[2])


def test_class_count_mismatch_keeps_initialization(
    build_mask2former, build_faseg_like_mask2former, shapes_of
):
    ours = build_faseg_like_mask2former(num_classes=11, num_queries=30)
    conversion = from_mask2former(
        build_mask2former().state_dict(), shapes_of(ours), MMSEG
    )
    dropped = {x.source: x.note for x in conversion.entries if not x.target}
    assert dropped == {
        'decode_head.cls_embed.weight': '8 rows, but the model has 12',
        'decode_head.cls_embed.bias': '8 rows, but the model has 12',
        'decode_head.query_feat.weight': '20 rows, but the model has 30',
        'decode_head.query_embed.weight': '20 rows, but the model has 30',
    }


def test_width_mismatch_raises(build_mask2former, build_faseg, shapes_of):
    state = build_mask2former().state_dict()
    with pytest.raises(ConversionError, match='shape mismatch: decode_head'):
        from_mask2former(state, shapes_of(build_faseg()), MMSEG)
    state['decode_head.novel.weight'] = torch.zeros(1)
    with pytest.raises(ConversionError, match='unexpected: decode_head\\.nov'):
        from_mask2former(state, shapes_of(build_faseg()), MMSEG)


def test_incomplete_mask2former_raises(
    build_mask2former, build_faseg_like_mask2former, shapes_of
):
    shapes = shapes_of(build_faseg_like_mask2former())
    state = build_mask2former().state_dict()
    lost = 'decode_head.transformer_decoder.layers.5.norms.0.weight'
    del state[lost], state['decode_head.query_feat.weight']
    with pytest.raises(ConversionError) as caught:
        from_mask2former(state, shapes, MMSEG)
    assert str(caught.value).splitlines()[1:] == [
        f'missing: {DECODER}query_feat.weight',
        f'missing: {DECODER}layers.6.cross_norm.weight',
    ]


def test_auxiliary_heads_are_dropped(
    build_mask2former, build_faseg_like_mask2former, shapes_of
):
    shapes = shapes_of(build_faseg_like_mask2former())
    extra = {'auxiliary_head.conv_seg.bias': torch.zeros(7)}
    shapes |= {k: x.shape for k, x in extra.items()}
    state = build_mask2former().state_dict() | extra
    conversion = from_mask2former(state, shapes, MMSEG)
    assert conversion.entries[-1].target is None
    assert set(extra) < set(conversion.missing_keys)


def test_key_of_first_release_is_mapped(
    build_faseg_like_mask2former, shapes_of
):
    model = build_faseg_like_mask2former()
    state = to_faseg(model.state_dict(), shapes_of(model)).state
    old = {
        name.replace('query_feat', 'static_query'): value
        for name, value in state.items()
        if not any(f'_layers.{i}.' in name for i in (9, 10, 11, 12))
    }
    old['sem_seg_head.predictor.level_embed.weight'] = torch.zeros(3, 128)
    converted = from_mask2former(old, shapes_of(model), 'mask2former')
    wanted = model.state_dict()[DECODER + 'query_feat.weight']
    assert torch.equal(converted.state[DECODER + 'query_feat.weight'], wanted)
