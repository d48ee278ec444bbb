"""Mask2Former of Hugging Face."""

import json
import re

import pytest
import torch
from decoder_parts import SINE, merge
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from safetensors.torch import load_file

from mmfaseg.checkpoints import (
    HUGGING_FACE_MASK2FORMER,
    ConversionError,
    describe_network,
    detect_format,
    find_weights,
    from_mask2former,
    from_mmseg_keys,
    read_class_names,
    to_hugging_face,
    to_mmseg_key,
)
from mmfaseg.checkpoints.hugging_face import (
    merge_projections,
    split_projections,
)
from mmfaseg.checkpoints.key_mapping import HUGGING_FACE_RULES, map_key
from mmfaseg.checkpoints.patch_merging import from_unfold_order

ENCODER = 'model.pixel_level_module.encoder.'
DECODER = 'model.pixel_level_module.decoder.'
TRANSFORMER = 'model.transformer_module.'
OURS = 'decode_head.transformer_decoder.'
PIXELS = 'decode_head.pixel_decoder.'
BLOCK = ENCODER + 'encoder.layers.2.blocks.5.'
OUR_BLOCK = 'backbone.stages.2.blocks.5.'
LAYER = TRANSFORMER + 'decoder.layers.8.'
# modules in files of transformers 4.26 to 5.24
NAMES = {
    ENCODER + 'embeddings.patch_embeddings.projection': (
        'backbone.patch_embed.projection'
    ),
    ENCODER + 'embeddings.norm': 'backbone.patch_embed.norm',
    BLOCK + 'layernorm_before': OUR_BLOCK + 'norm1',
    BLOCK + 'attention.output.dense': OUR_BLOCK + 'attn.w_msa.proj',
    BLOCK + 'layernorm_after': OUR_BLOCK + 'norm2',
    BLOCK + 'intermediate.dense': OUR_BLOCK + 'ffn.layers.0.0',
    BLOCK + 'output.dense': OUR_BLOCK + 'ffn.layers.1',
    ENCODER + 'encoder.layers.1.downsample.norm': (
        'backbone.stages.1.downsample.norm'
    ),
    ENCODER + 'encoder.layers.1.downsample.reduction': (
        'backbone.stages.1.downsample.reduction'
    ),
    ENCODER + 'hidden_states_norms.stage1': 'backbone.norm0',
    ENCODER + 'hidden_states_norms.stage4': 'backbone.norm3',
    ENCODER + 'embedder.embedder.convolution': 'backbone.conv1',
    ENCODER + 'embedder.embedder.normalization': 'backbone.bn1',
    ENCODER + 'encoder.stages.0.layers.2.layer.0.convolution': (
        'backbone.layer1.2.conv1'
    ),
    ENCODER + 'encoder.stages.3.layers.1.layer.2.normalization': (
        'backbone.layer4.1.bn3'
    ),
    ENCODER + 'encoder.stages.1.layers.0.shortcut.convolution': (
        'backbone.layer2.0.downsample.0'
    ),
    ENCODER + 'encoder.stages.1.layers.0.shortcut.normalization': (
        'backbone.layer2.0.downsample.1'
    ),
    DECODER + 'input_projections.2.0': PIXELS + 'input_projs.2.0',
    DECODER + 'input_projections.2.1': PIXELS + 'input_projs.2.1',
    DECODER + 'encoder.layers.5.self_attn.sampling_offsets': (
        PIXELS + 'encoder.layers.5.self_attn.sampling_offsets'
    ),
    DECODER + 'encoder.layers.5.self_attn.attention_weights': (
        PIXELS + 'encoder.layers.5.self_attn.attention_weights'
    ),
    DECODER + 'encoder.layers.5.self_attn.value_proj': (
        PIXELS + 'encoder.layers.5.self_attn.value_proj'
    ),
    DECODER + 'encoder.layers.5.self_attn.output_proj': (
        PIXELS + 'encoder.layers.5.self_attn.output_proj'
    ),
    DECODER + 'encoder.layers.5.self_attn_layer_norm': (
        PIXELS + 'encoder.layers.5.self_norm'
    ),
    DECODER + 'encoder.layers.5.fc1': PIXELS + 'encoder.layers.5.ffn.0',
    DECODER + 'encoder.layers.5.fc2': PIXELS + 'encoder.layers.5.ffn.2',
    DECODER + 'encoder.layers.5.final_layer_norm': (
        PIXELS + 'encoder.layers.5.ffn_norm'
    ),
    DECODER + 'adapter_1.0': PIXELS + 'lateral_conv.0',
    DECODER + 'adapter_1.1': PIXELS + 'lateral_conv.1',
    DECODER + 'layer_1.0': PIXELS + 'output_conv.0',
    DECODER + 'layer_1.1': PIXELS + 'output_conv.1',
    DECODER + 'mask_projection': PIXELS + 'mask_feature',
    LAYER + 'cross_attn.out_proj': OURS + 'layers.8.cross_attn.attn.out_proj',
    LAYER + 'cross_attn_layer_norm': OURS + 'layers.8.cross_norm',
    LAYER + 'self_attn.out_proj': OURS + 'layers.8.self_attn.out_proj',
    LAYER + 'self_attn_layer_norm': OURS + 'layers.8.self_norm',
    LAYER + 'fc1': OURS + 'layers.8.ffn.0',
    LAYER + 'fc2': OURS + 'layers.8.ffn.2',
    LAYER + 'final_layer_norm': OURS + 'layers.8.ffn_norm',
    TRANSFORMER + 'decoder.layernorm': OURS + 'predictor.norm',
    TRANSFORMER + 'decoder.mask_predictor.mask_embedder.0.0': (
        OURS + 'predictor.mask_embed.0'
    ),
    TRANSFORMER + 'decoder.mask_predictor.mask_embedder.1.0': (
        OURS + 'predictor.mask_embed.2'
    ),
    TRANSFORMER + 'decoder.mask_predictor.mask_embedder.2.0': (
        OURS + 'predictor.mask_embed.4'
    ),
    TRANSFORMER + 'queries_features': OURS + 'query_feat',
    TRANSFORMER + 'queries_embedder': OURS + 'query_embed',
    TRANSFORMER + 'level_embed': OURS + 'level_embed',
    'class_predictor': OURS + 'predictor.class_embed',
}
# parameters and buffers whose own names change
SINGLE = {
    BLOCK + 'attention.self.relative_position_bias_table': (
        OUR_BLOCK + 'attn.w_msa.relative_position_bias_table'
    ),
    BLOCK + 'attention.self.relative_position_index': (
        OUR_BLOCK + 'attn.w_msa.relative_position_index'
    ),
    DECODER + 'level_embed': PIXELS + 'encoder.level_embed.weight',
    LAYER + 'cross_attn.in_proj_weight': (
        OURS + 'layers.8.cross_attn.attn.in_proj_weight'
    ),
    LAYER + 'cross_attn.in_proj_bias': (
        OURS + 'layers.8.cross_attn.attn.in_proj_bias'
    ),
}
# three modules in one of mmfaseg
PROJECTIONS = [
    *(BLOCK + f'attention.self.{x}' for x in ('query', 'key', 'value')),
    *(LAYER + f'self_attn.{x}' for x in ('q_proj', 'k_proj', 'v_proj')),
]
# without a counterpart; criterion.empty_weight follows from the config
UNUSED = [
    ENCODER + 'layernorm.weight',  # transformers 4
    ENCODER + 'swin.layernorm.weight',
    ENCODER + 'swin.layernorm.bias',
]
CLASS_WEIGHTS = 'criterion.empty_weight'
MASK2FORMER = dict(
    positional_query=dict(type='mmfaseg.LearnedPositionalQuery'),
    high_res_attention=None,
    num_layers=9,
    masked_attention=dict(mask_threshold=0.5),
)
STAGES = dict(out_features=['stage1', 'stage2', 'stage3', 'stage4'])


def module_of(name):
    """Returns a name with all numbers replaced and without weight or bias."""
    module = name.removesuffix('.weight').removesuffix('.bias')
    return re.sub(r'\d+', '0', module)


@pytest.fixture
def build_small(build_faseg):
    """Build a small Mask2Former with the decoder of mmfaseg."""

    def build(backbone='resnet'):
        return build_faseg(
            backbone,
            transformer_decoder=MASK2FORMER,
            pixel_decoder=dict(positional_encoding=SINE),
        )

    return build


@pytest.mark.parametrize(('theirs', 'ours'), NAMES.items())
def test_modules_map_in_both_directions(theirs, ours):
    for end in ('.weight', '.bias'):
        assert map_key(theirs + end, HUGGING_FACE_RULES)[0] == ours + end
        assert map_key(ours + end, HUGGING_FACE_RULES, True)[0] == theirs + end


@pytest.mark.parametrize(('theirs', 'ours'), SINGLE.items())
def test_parameters_map_in_both_directions(theirs, ours):
    assert map_key(theirs, HUGGING_FACE_RULES)[0] == ours
    assert map_key(ours, HUGGING_FACE_RULES, reverse=True)[0] == theirs


@pytest.mark.parametrize('backbone', ['resnet', 'swin'])
def test_every_written_name_is_one_of_hugging_face(
    build_small, shapes_of, backbone
):
    model = build_small(backbone)
    state = to_hugging_face(model.state_dict(), shapes_of(model)).state
    names = [*NAMES, *SINGLE, *PROJECTIONS, CLASS_WEIGHTS]
    known = {module_of(name) for name in names}
    statistics = re.compile(r'\.(running_mean|running_var|num_batches_.*)$')
    found = {module_of(statistics.sub('', name)) for name in state}
    assert found <= known
    assert {x for x in known - found if ENCODER not in x} == set()


@pytest.mark.parametrize('backbone', ['resnet', 'swin'])
def test_round_trip_is_the_identity(build_small, shapes_of, backbone):
    model = build_small(backbone)
    state, shapes = model.state_dict(), shapes_of(model)
    torch.manual_seed(0)
    for x in state.values():
        if x.is_floating_point():
            x.normal_()
    theirs = to_hugging_face(state, shapes, no_object_weight=0.3).state
    assert detect_format(theirs) == HUGGING_FACE_MASK2FORMER
    assert theirs[CLASS_WEIGHTS].tolist() == [1.0] * 7 + [pytest.approx(0.3)]
    unused = {name: torch.ones(4) for name in UNUSED}
    back = from_mask2former(theirs | unused, shapes, HUGGING_FACE_MASK2FORMER)
    assert back.missing_keys == []
    assert back.state.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(back.state[name], value), name
    dropped = {x.source for x in back.entries if x.target is None}
    assert dropped == {CLASS_WEIGHTS, *UNUSED}
    again = to_hugging_face(back.state, shapes, 0.3).state
    assert again.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(again[name], value), name


@pytest.mark.parametrize(
    ('names', 'ours'),
    [
        (PROJECTIONS[:3], OUR_BLOCK + 'attn.w_msa.qkv.weight'),
        (PROJECTIONS[3:], OURS + 'layers.8.self_attn.in_proj_weight'),
    ],
)
def test_projections_are_concatenated_in_order(names, ours):
    state = {
        f'{name}.weight': torch.full((2, 2), value)
        for name, value in zip(names, (1.0, 2.0, 3.0), strict=True)
    }
    merged = merge_projections(state)
    ((name, value),) = merged.items()
    assert map_key(name, HUGGING_FACE_RULES)[0] == ours
    assert value[:, 0].tolist() == [1, 1, 2, 2, 3, 3]
    split = split_projections(merged)
    assert split.keys() == state.keys()
    assert all(torch.equal(split[x], state[x]) for x in state)
    del state[f'{names[1]}.weight']
    assert merge_projections(state) == state  # reported as unexpected


def test_faseg_starts_from_hugging_face(build_small, build_faseg, shapes_of):
    """Other classes, 13 layers and an additional level."""
    peer = build_small('swin')
    theirs = to_hugging_face(peer.state_dict(), shapes_of(peer)).state
    ours = build_faseg('swin', num_classes=3)
    merging = peer.state_dict()['backbone.stages.0.downsample.norm.weight']
    assert torch.equal(
        theirs[ENCODER + 'encoder.layers.0.downsample.norm.weight'],
        from_unfold_order(merging),
    )
    conversion = from_mask2former(
        theirs, shapes_of(ours), HUGGING_FACE_MASK2FORMER
    )
    notes = {x.source: x.note for x in conversion.entries if not x.target}
    assert notes.pop(CLASS_WEIGHTS)
    assert notes == {
        f'class_predictor.{x}': '8 rows, but the model has 4'
        for x in ('weight', 'bias')
    }
    name = 'layers.{}.self_attn.in_proj_weight'
    assert torch.equal(
        conversion.state[OURS + name.format(10)],
        peer.state_dict()[OURS + name.format(8)],
    )
    missing, unexpected = ours.load_state_dict(conversion.state, strict=False)
    assert unexpected == []
    assert missing == conversion.missing_keys


def test_unsupported_models_raise(build_faseg, build_small, shapes_of):
    model = build_faseg()
    with pytest.raises(ConversionError, match='4 feature levels'):
        to_hugging_face(model.state_dict(), shapes_of(model))
    model = build_small()
    state = to_hugging_face(model.state_dict(), shapes_of(model)).state
    del state[LAYER + 'self_attn.k_proj.weight']
    with pytest.raises(ConversionError, match=r'unexpected: .*\.q_proj'):
        from_mask2former(state, shapes_of(model), HUGGING_FACE_MASK2FORMER)


def test_folder_of_a_saved_model(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'model\.safetensors'):
        find_weights(tmp_path)
    weights = tmp_path / 'pytorch_model.bin'
    weights.touch()
    assert find_weights(tmp_path) == weights
    assert find_weights(weights) == weights
    assert read_class_names(weights, 2) is None
    config = tmp_path / 'config.json'
    for labels, names in (
        ({'0': 'road', '1': 'sky'}, ['road', 'sky']),
        ({'0': 'LABEL_0', '1': 'LABEL_1'}, None),
    ):
        config.write_text(json.dumps(dict(id2label=labels)))
        assert read_class_names(weights, 2) == names
    config.write_text('{"model_type": "mask2former"}')  # default names
    assert read_class_names(weights, 2) is None
    for text in ('[', '{"id2label": {"1": "road"}}'):
        config.write_text(text)
        with pytest.raises(ValueError, match='no id2label'):
            read_class_names(weights, 2)


@pytest.fixture(params=['swin-t', 'r50'])
def theirs(request, tmp_path):
    """A model of transformers with random weights, and its saved weights."""
    transformers = pytest.importorskip(
        'transformers', reason='requires `pip install transformers`'
    )
    if request.param == 'swin-t':
        backbone = transformers.SwinConfig(**STAGES)
    else:
        backbone = transformers.ResNetConfig(**STAGES)
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone, num_labels=19
    )
    torch.manual_seed(0)
    model = transformers.Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for name, x in model.named_parameters():
            if x.dim() > 1:  # different masks and scores for each query
                torch.nn.init.normal_(x, std=1.0 / x[0].numel() ** 0.5)
            else:
                torch.nn.init.normal_(x, float(name.endswith('weight')), 0.1)
        for name, x in model.named_buffers():
            if 'running' in name:
                x.uniform_(0.5, 1.5)
    model.save_pretrained(tmp_path)
    return request.param, model, load_file(tmp_path / 'model.safetensors')


def build_mask2former(root, family, backbone):
    """Builds Mask2Former with a head of mmfaseg or MMSegmentation."""
    configs = root / 'configs/_base_/models'
    cfg = Config.fromfile(configs / f'{family}_r50.py')
    if backbone == 'swin-t':
        swin = Config.fromfile(configs / 'faseg_swin-t.py').model
        cfg.model.backbone = swin.backbone
        cfg.model.decode_head.in_channels = swin.decode_head.in_channels
    cfg.model.backbone.init_cfg = None
    head = cfg.model.decode_head
    head.num_classes = 19
    if family == 'faseg':
        head.pixel_decoder.positional_encoding = SINE
        head.transformer_decoder = merge(head.transformer_decoder, MASK2FORMER)
    else:
        head.loss_cls.class_weight = [1.0] * 19 + [0.1]
    init_default_scope('mmseg')
    torch.manual_seed(1)
    return MODELS.build(cfg.model).eval()


@pytest.mark.slow
def test_predictions_equal_transformers(root, theirs):
    """Also that all weights return unchanged."""
    backbone, peer, state = theirs
    source = detect_format(state)
    assert describe_network(state, source) == (backbone, 19)
    ours, mmseg = (
        build_mask2former(root, x, backbone) for x in ('faseg', 'mask2former')
    )
    shapes = {k: x.shape for k, x in ours.state_dict().items()}
    conversion = from_mask2former(state, shapes, source)
    dropped = {x.source for x in conversion.entries if x.target is None}
    assert dropped == {CLASS_WEIGHTS, *UNUSED} & set(state)
    ours.load_state_dict(conversion.state, strict=False)
    conversion.rename(to_mmseg_key)
    missing, unexpected = mmseg.load_state_dict(conversion.state, strict=False)
    assert unexpected == []
    assert missing == conversion.missing_keys
    assert all(x.endswith('.relative_position_index') for x in missing)

    image = torch.randn(1, 3, 128, 160)
    sample = [type('Sample', (), dict(metainfo=dict(img_shape=(128, 160))))]
    # In float32, mask logits near 0 change sign. mmseg computes positional
    # encodings in float32.
    for dtype, tolerance in ((torch.float32, 2e-3), (torch.float64, 1e-12)):
        x = image.to(dtype)
        for model in (peer, ours):
            model.to(dtype)
        with torch.no_grad():
            wanted = peer(pixel_values=x)
            outputs = [ours.decode_head(ours.backbone(x))]
            if dtype == torch.float32:
                feats = mmseg.backbone(x)
                outputs.append(mmseg.decode_head(feats, sample))
        masks = wanted.masks_queries_logits
        assert 0.02 < (masks > 0).double().mean() < 0.98
        for scores, found in outputs:
            for mine, other in (
                (scores[-1], wanted.class_queries_logits),
                (found[-1], masks),
            ):
                atol = tolerance * float(other.abs().max())
                torch.testing.assert_close(mine, other, rtol=0, atol=atol)

    for model in (ours.float(), mmseg):
        weights = from_mmseg_keys(model.state_dict())
        exported = to_hugging_face(weights, shapes).state
        assert set(state) - set(exported) == set(UNUSED) & set(state)
        computed = 'attention.self.relative_position_index'
        assert all(x.endswith(computed) for x in set(exported) - set(state))
        for name in set(state) & set(exported):
            assert torch.equal(exported[name], state[name]), name
