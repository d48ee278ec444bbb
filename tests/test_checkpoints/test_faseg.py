import importlib.util
import json
from pathlib import Path

import mmseg
import parity_cases as parity
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.models.utils.embed import PatchMerging
from mmseg.registry import MODELS

from mmfaseg.checkpoints import (
    ConversionError,
    describe_network,
    detect_format,
    from_faseg,
    to_faseg,
)
from mmfaseg.checkpoints.patch_merging import (
    from_unfold_order,
    to_unfold_order,
)

CONFIGS = Path(__file__).parents[2] / 'configs' / 'faseg'


@pytest.mark.parametrize('backbone', ['resnet', 'swin'])
def test_round_trip_is_the_identity(build_faseg, shapes_of, backbone):
    model = build_faseg(backbone)
    state, shapes = model.state_dict(), shapes_of(model)
    theirs = to_faseg(state, shapes)
    assert detect_format(theirs.state) == 'faseg'
    restored = from_faseg(theirs.state, shapes)
    assert list(restored.state) == list(state)
    for name, value in state.items():
        assert torch.equal(restored.state[name], value), name
    assert [x.source for x in theirs.entries] == list(state)
    assert restored.missing_keys == []


@pytest.mark.skipif(not parity.PARITY.is_dir(), reason=parity.ABSENT)
def test_every_entry_of_the_authors_swin_t():
    """Names and shapes of their model, with computed relative positions."""
    names = json.loads((parity.PARITY / 'state_names_swin_t.json').read_text())
    state = parity.make_state(names, 150)
    row, column = torch.meshgrid(
        torch.arange(7), torch.arange(7), indexing='ij'
    )
    places = torch.stack([row.flatten(), column.flatten()])
    offset = places[:, :, None] - places[:, None] + 6
    for name, shape in names:
        if name.endswith('relative_position_index'):
            state[name] = offset[0] * 13 + offset[1]
        assert list(state[name].shape) == shape
    assert len(state) == len(names) == 570

    name = 'faseg_swin-t_8xb2-160k_ade20k-512x512.py'
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    indices = {
        key: x.clone()
        for key, x in model.state_dict().items()
        if key.endswith('relative_position_index')
    }
    shapes = {key: x.shape for key, x in model.state_dict().items()}
    converted = from_faseg(state, shapes)
    assert converted.missing_keys == []
    dropped = [x.source for x in converted.entries if x.target is None]
    assert dropped == ['criterion.empty_weight']
    model.load_state_dict(converted.state, strict=True)
    for key, x in indices.items():
        assert torch.equal(converted.state[key], x), key

    restored = to_faseg(model.state_dict(), shapes).state
    assert sorted(restored) == sorted(state)
    for key, value in state.items():
        assert torch.equal(restored[key], value), key


def test_mismatched_keys_are_listed(build_faseg, shapes_of):
    model = build_faseg()
    shapes = shapes_of(model)
    state = to_faseg(model.state_dict(), shapes).state
    missing = 'sem_seg_head.predictor.query_feat.weight'
    short = 'sem_seg_head.pixel_decoder.mask_features.bias'
    del state[missing]
    state[short] = state[short][:-1]
    state['sem_seg_head.predictor.momentum'] = torch.zeros(1)
    state['backbone.res2.9.conv1.weight'] = torch.zeros(1)
    with pytest.raises(ConversionError) as caught:
        from_faseg(state, shapes)
    lines = str(caught.value).splitlines()[1:]
    assert lines == [
        'unexpected: sem_seg_head.predictor.momentum',
        'unexpected: backbone.layer1.9.conv1.weight',
        'missing: decode_head.transformer_decoder.query_feat.weight',
        'shape mismatch: decode_head.pixel_decoder.mask_feature.bias is '
        '(63,), the model has (64,)',
    ]


def test_auxiliary_head_is_dropped_in_reverse_conversion(
    build_faseg, shapes_of
):
    model = build_faseg()
    extra = {'auxiliary_head.conv_seg.bias': torch.zeros(7)}
    shapes = shapes_of(model) | {k: x.shape for k, x in extra.items()}
    theirs = to_faseg(model.state_dict() | extra, shapes)
    dropped = [x.source for x in theirs.entries if x.target is None]
    assert dropped == list(extra)
    assert from_faseg(theirs.state, shapes).missing_keys == list(extra)


def test_computed_buffers_may_be_missing(build_faseg, shapes_of):
    """Stripped Swin checkpoints lack the index of relative positions."""
    model = build_faseg('swin')
    shapes = shapes_of(model)
    index = 'relative_position_index'
    theirs = to_faseg(model.state_dict(), shapes).state
    state = {k: x for k, x in theirs.items() if not k.endswith(index)}
    assert len(state) < len(theirs)
    converted = from_faseg(state, shapes)
    assert all(name.endswith(index) for name in converted.missing_keys)


@pytest.mark.parametrize('shape', [(), (6,), (64, 6), (0,)])
def test_patch_merging_shape_mismatch_raises(build_faseg, shapes_of, shape):
    model = build_faseg('swin')
    shapes = shapes_of(model)
    state = to_faseg(model.state_dict(), shapes).state
    state['backbone.layers.0.downsample.norm.weight'] = torch.zeros(shape)
    with pytest.raises(ConversionError, match='shape mismatch: backbone'):
        from_faseg(state, shapes)


def test_frozen_batch_norm_counters_may_be_missing(build_faseg, shapes_of):
    model = build_faseg()
    shapes = shapes_of(model)
    state = {
        name: x
        for name, x in to_faseg(model.state_dict(), shapes).state.items()
        if not name.endswith('num_batches_tracked')
    }
    converted = from_faseg(state, shapes)
    assert len(converted.missing_keys) == 53
    build_faseg().load_state_dict(converted.state, strict=True)


@pytest.mark.parametrize('weight', [0.1, 0.25])
def test_class_weights_of_the_loss(build_faseg, shapes_of, weight):
    model = build_faseg()
    shapes = shapes_of(model)
    theirs = to_faseg(model.state_dict(), shapes, weight)
    weights = theirs.state['criterion.empty_weight']
    assert weights.tolist() == pytest.approx([1.0] * 7 + [weight])
    entry = from_faseg(theirs.state, shapes).entries[-1]
    assert entry.target is None
    assert ('no_object_weight=0.25' in entry.note) == (weight == 0.25)


def test_patch_merging_outputs_are_equal():
    """The original concatenates the pixels of a patch in column order."""
    torch.manual_seed(0)
    ours = PatchMerging(6, 12).double()
    norm = {k: torch.randn(24).double() for k in ('weight', 'bias')}
    reduction = torch.randn(12, 24).double()
    x = torch.randn(2, 6, 8, 10).double()

    pixels = [x[:, :, i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
    stacked = torch.cat(pixels, 1).flatten(2).transpose(1, 2)
    expected = torch.nn.functional.layer_norm(stacked, [24], **norm)
    expected = expected @ reduction.T

    state = {f'norm.{k}': to_unfold_order(v) for k, v in norm.items()}
    state['reduction.weight'] = to_unfold_order(reduction)
    ours.load_state_dict(state)
    actual, _ = ours(x.flatten(2).transpose(1, 2), (8, 10))
    torch.testing.assert_close(actual, expected)
    assert torch.equal(
        from_unfold_order(to_unfold_order(reduction)), reduction
    )


def test_network_is_recognized_by_its_shapes(build_faseg, shapes_of):
    name = 'faseg_r50_8xb2-90k_cityscapes-512x1024.py'
    cfg = Config.fromfile(CONFIGS / name)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    state = model.state_dict()
    theirs = to_faseg(state, shapes_of(model)).state
    assert describe_network(state, 'mmfaseg') == ('r50', 19)
    assert describe_network(theirs, 'faseg') == ('r50', 19)
    small = build_faseg('swin').state_dict()
    with pytest.raises(ConversionError, match='16 channels at stride 4'):
        describe_network(small, 'mmfaseg')
    with pytest.raises(ConversionError, match='neither of FASeg nor of Mask'):
        detect_format({'fc.weight': torch.zeros(1)})


def test_swin_equals_mmseg_converter(build_faseg, shapes_of):
    """mmseg converted its published weights with this script."""
    path = Path(mmseg.__file__).parent / '.mim/tools/model_converters'
    if not path.is_dir():
        pytest.skip('mmseg is installed without its tools')
    spec = importlib.util.spec_from_file_location(
        'swin2mmseg', path / 'swin2mmseg.py'
    )
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    model = build_faseg('swin')
    theirs = to_faseg(model.state_dict(), shapes_of(model)).state
    official = {
        name.removeprefix('backbone.'): value
        for name, value in theirs.items()
        if name.startswith('backbone.')
    }
    converted = peer.convert_swin(official)
    ours = model.backbone.state_dict()
    assert sorted(converted) == sorted(ours)
    for name, value in ours.items():
        assert torch.equal(converted[name], value), name
