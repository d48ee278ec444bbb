"""Initialization of detectors and of models with other classes."""

import pytest
import torch
from decoder_parts import CONDITIONAL, SINE, merge
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmfaseg.checkpoints import (
    ConversionError,
    detect_format,
    from_mask2former,
    from_mmfaseg,
    is_detector,
    to_detector_key,
    to_segmentor_keys,
)
from mmfaseg.testing import make_pyramid

DECODER = 'decode_head.transformer_decoder.'
PEER = 'mask2former_r18_1xb8-demo_shapes-instance-128x128.py'
OURS = 'faseg_r18_1xb8-demo_shapes-instance-128x128.py'
MASK2FORMER = dict(
    positional_query=dict(type='mmfaseg.LearnedPositionalQuery'),
    high_res_attention=None,
    num_layers=9,
    masked_attention=dict(mask_threshold=0.5),
)


@pytest.fixture
def build(root):
    def build(name, seed=0, positions=CONDITIONAL, **decoder):
        cfg = Config.fromfile(root / 'configs' / name)
        init_default_scope(cfg.default_scope)
        head = cfg.model.get('panoptic_head', cfg.model.get('decode_head'))
        if 'loss' in head:
            head.transformer_decoder = merge(head.transformer_decoder, decoder)
            head.pixel_decoder.positional_encoding = positions
        torch.manual_seed(seed)
        return MODELS.build(cfg.model)

    return build


def shapes_of(model):
    return to_segmentor_keys(
        {k: x.shape for k, x in model.state_dict().items()}
    )


def test_detector_is_initialized_from_a_segmentor(build):
    """Queries and classes differ in number and are not copied."""
    source = build('faseg/faseg_r18_1xb8-demo_shapes-128x128.py')
    target = build(f'faseg_coco/{OURS}', seed=1)
    assert is_detector(target.state_dict())
    assert not is_detector(source.state_dict())
    conversion = from_mmfaseg(source.state_dict(), shapes_of(target))
    conversion.rename(to_detector_key)
    dropped = {x.source for x in conversion.entries if x.target is None}
    classes = {DECODER + f'predictor.class_embed.{x}' for x in BOTH}
    auxiliary = {x for x in source.state_dict() if x.startswith('auxiliary')}
    assert dropped == classes | auxiliary
    before = {k: x.clone() for k, x in target.state_dict().items()}
    missing, unexpected = target.load_state_dict(
        conversion.state, strict=False
    )
    assert unexpected == []
    assert set(missing) == set(conversion.missing_keys)
    assert set(missing) == {
        x.replace('decode_head', 'panoptic_head') for x in classes
    }
    after, theirs = target.state_dict(), to_segmentor_keys(source.state_dict())
    for name, value in to_segmentor_keys(after).items():
        if name in theirs and name not in dropped:
            assert torch.equal(value, theirs[name])
    assert all(torch.equal(after[x], before[x]) for x in missing)


BOTH = ('weight', 'bias')


def test_classifier_is_kept_only_on_request(build):
    """Equal numbers of classes may mean different classes or orders."""
    source = build(f'faseg_coco/{OURS}')
    target = build(f'faseg_coco/{OURS}', seed=1)
    state = to_segmentor_keys(source.state_dict())
    conversion = from_mmfaseg(state, shapes_of(target))
    assert conversion.missing_keys == [
        DECODER + f'predictor.class_embed.{x}' for x in BOTH
    ]
    conversion = from_mmfaseg(state, shapes_of(target), keep_classes=True)
    assert conversion.missing_keys == []
    peer = to_segmentor_keys(build(f'faseg_coco/{PEER}').state_dict())
    shapes = shapes_of(build(f'faseg_coco/{OURS}', 1, SINE, **MASK2FORMER))
    for keep, missing in ((True, 0), (False, 2)):
        conversion = from_mask2former(peer, shapes, 'mmseg-mask2former', keep)
        assert len(conversion.missing_keys) == missing


def test_box_embedding_may_be_missing(build):
    source = build(f'faseg_coco/{OURS}')
    query = dict(type='mmfaseg.BoxAwareFocusQuery')
    target = build(f'faseg_coco/{OURS}', seed=1, positional_query=query)
    state = to_segmentor_keys(source.state_dict())
    conversion = from_mmfaseg(state, shapes_of(target), keep_classes=True)
    box = DECODER + 'positional_query.box_embed.weight'
    assert conversion.missing_keys == [box]
    restored = from_mmfaseg(
        to_segmentor_keys(target.state_dict()), shapes_of(source), True
    )
    (entry,) = (x for x in restored.entries if x.target is None)
    assert entry.source == box
    assert 'other positional queries' in entry.note


def test_another_number_of_layers_raises(build):
    source = build(f'faseg_coco/{OURS}')
    target = build(f'faseg_coco/{OURS}', num_layers=13)
    state = to_segmentor_keys(source.state_dict())
    with pytest.raises(ConversionError, match=r'missing: .*layers\.5\.'):
        from_mmfaseg(state, shapes_of(target))


def test_converted_mask2former_equals_mmdet(build):
    """All weights of a detector, with its keys."""
    peer = build(f'faseg_coco/{PEER}')
    ours = build(f'faseg_coco/{OURS}', 1, SINE, **MASK2FORMER)
    with torch.no_grad():
        for x in peer.parameters():
            if x.dim() > 1:
                torch.nn.init.normal_(x, std=1.0 / x[0].numel() ** 0.5)
    state = to_segmentor_keys(peer.state_dict())
    assert detect_format(state) == 'mmseg-mask2former'
    conversion = from_mask2former(state, shapes_of(ours), 'mmseg-mask2former')
    conversion.rename(to_detector_key)
    assert conversion.missing_keys == []
    ours.load_state_dict(conversion.state)
    peer, ours = peer.double().eval(), ours.double().eval()
    feats = make_pyramid(2, (32, 64, 128, 256), 96, 128)
    meta = dict(batch_input_shape=(96, 128), img_shape=(96, 128))
    samples = [type('Sample', (), dict(metainfo=meta))() for _ in range(2)]
    with torch.no_grad():
        expected = peer.panoptic_head.predict(feats, samples)
        found = ours.panoptic_head.predict(feats, samples)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


def test_detector_is_initialized_from_mmdet(build):
    peer = build(f'faseg_coco/{PEER}')
    ours = build(f'faseg_coco/{OURS}', num_layers=13)
    conversion = from_mask2former(
        to_segmentor_keys(peer.state_dict()),
        shapes_of(ours),
        'mmseg-mask2former',
    )
    conversion.rename(to_detector_key)
    assert all(x.target is not None for x in conversion.entries)
    missing, unexpected = ours.load_state_dict(conversion.state, strict=False)
    assert unexpected == []
    assert set(missing) == set(conversion.missing_keys)
    assert all(x.startswith('panoptic_head.') for x in missing)
