import pytest

from mmfaseg.checkpoints.key_mapping import FASEG_RULES, MMSEG_RULES, map_key

HEAD = 'sem_seg_head.'
OURS = 'decode_head.'
NAMES = [
    ('backbone.stem.conv1.weight', 'backbone.conv1.weight'),
    ('backbone.stem.conv1.norm.bias', 'backbone.bn1.bias'),
    (
        'backbone.res2.0.shortcut.norm.running_var',
        'backbone.layer1.0.downsample.1.running_var',
    ),
    ('backbone.res5.2.conv3.weight', 'backbone.layer4.2.conv3.weight'),
    ('backbone.res4.22.conv2.norm.bias', 'backbone.layer3.22.bn2.bias'),
    ('backbone.patch_embed.proj.bias', 'backbone.patch_embed.projection.bias'),
    (
        'backbone.layers.2.blocks.17.attn.relative_position_bias_table',
        'backbone.stages.2.blocks.17.attn.w_msa.relative_position_bias_table',
    ),
    (
        'backbone.layers.0.blocks.1.mlp.fc2.weight',
        'backbone.stages.0.blocks.1.ffn.layers.1.weight',
    ),
    (
        'backbone.layers.1.downsample.reduction.weight',
        'backbone.stages.1.downsample.reduction.weight',
    ),
    ('backbone.norm3.weight', 'backbone.norm3.weight'),
    (
        HEAD + 'pixel_decoder.input_proj.3.1.weight',
        OURS + 'pixel_decoder.input_projs.3.1.weight',
    ),
    (
        HEAD + 'pixel_decoder.transformer.level_embed',
        OURS + 'pixel_decoder.encoder.level_embed.weight',
    ),
    (
        HEAD + 'pixel_decoder.transformer.encoder.layers.5.norm2.bias',
        OURS + 'pixel_decoder.encoder.layers.5.ffn_norm.bias',
    ),
    (
        HEAD + 'predictor.transformer_cross_attention_layers.12'
        '.multihead_attn.in_proj_weight',
        OURS + 'transformer_decoder.layers.12.cross_attn.attn.in_proj_weight',
    ),
    (
        HEAD + 'predictor.mask_embed.layers.2.bias',
        OURS + 'transformer_decoder.predictor.mask_embed.4.bias',
    ),
    (
        HEAD + 'predictor.adapt_pos2d.2.weight',
        OURS + 'transformer_decoder.positional_query.mlp.2.weight',
    ),
]


@pytest.mark.parametrize(('theirs', 'ours'), NAMES)
def test_keys_map_in_both_directions(theirs, ours):
    renamed, (source, target) = map_key(theirs, FASEG_RULES)
    assert renamed == ours
    renamed, rule = map_key(ours, FASEG_RULES, reverse=True)
    assert renamed == theirs
    assert rule == (target, source)


@pytest.mark.parametrize(
    'name',
    [
        'sem_seg_head.predictor.adapt_pos3d.0.weight',
        'backbone.res6.0.conv1.weight',
        'backbone.res2.0.conv1.',
        'backbone.layers.x.blocks.0.norm1.weight',
        'prefix.backbone.norm3.weight',
    ],
)
def test_unknown_key_maps_to_none(name):
    assert map_key(name, FASEG_RULES) is None


def test_every_rule_is_invertible():
    """No rule shadows another one, in either direction."""
    for rules in (FASEG_RULES, MMSEG_RULES):
        assert len(set(rules)) == len(rules)
        for theirs, ours in rules:
            fill = dict(i=3, j=4)
            name = theirs.replace('*', 'rest').format(**fill)
            renamed, rule = map_key(name, rules)
            assert rule == (theirs, ours)
            assert renamed == ours.replace('*', 'rest').format(**fill)
            assert map_key(renamed, rules, reverse=True) == (
                name,
                (ours, theirs),
            )
