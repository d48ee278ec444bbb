import re

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import mmfaseg  # noqa: F401  registers the constructor
from mmfaseg.models.layers import LearnedPositionalEncoding


class _Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.backbone.relative_position_bias_table = nn.Parameter(
            torch.ones(3, 2)
        )
        self.backbone.pos_embed = nn.Parameter(torch.ones(1, 5, 4))
        self.backbone.cls_token = nn.Parameter(torch.ones(1, 1, 4))
        self.decoder = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.query_feat = nn.Embedding(2, 4)
        self.position = LearnedPositionalEncoding(4, 2)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ('options', 'rate'),
    [
        (
            dict(
                paramwise_cfg=dict(custom_keys={'backbone': {'lr_mult': 0.1}})
            ),
            0.1,
        ),
        (dict(paramwise_cfg={}), 1.0),
        ({}, 1.0),
    ],
)
def test_norms_and_embeddings_are_not_decayed(options, rate):
    wrapper = build_optim_wrapper(
        _Model(),
        dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.5),
            constructor='mmfaseg.DecayFreeNormConstructor',
            **options,
        ),
    )
    names = [name for name, _ in _Model().named_parameters()]
    groups = wrapper.optimizer.param_groups
    decay = {
        name: group['weight_decay']
        for name, group in zip(names, groups, strict=True)
    }
    assert {name for name in names if decay[name]} == {
        'backbone.0.weight',
        'backbone.0.bias',
        'decoder.0.weight',
        'decoder.0.bias',
    }
    for name, group in zip(names, groups, strict=True):
        assert group['lr'] == (rate if name.startswith('backbone') else 1.0)


VIT = dict(
    type='VisionTransformer',
    img_size=32,
    embed_dims=8,
    num_layers=3,
    num_heads=1,
    out_indices=(2,),
    final_norm=True,
)
SWIN = dict(
    type='SwinTransformer',
    embed_dims=8,
    depths=(1, 2),
    num_heads=(1, 1),
    strides=(4, 2),
    out_indices=(0, 1),
)
RESNET = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)
LEARNING_RATES = {
    'vit': (
        VIT,
        {
            'patch_embed.projection.weight': 1 / 16,
            'cls_token': 1 / 16,
            'layers.0.attn.attn.in_proj_weight': 1 / 8,
            'layers.1.ffn.layers.1.weight': 1 / 4,
            'layers.2.ln1.weight': 1 / 2,
            'ln1.weight': 1,
        },
    ),
    'swin': (
        SWIN,
        {
            'patch_embed.projection.weight': 1 / 32,
            'stages.0.blocks.0.attn.w_msa.qkv.weight': 1 / 16,
            'stages.0.downsample.reduction.weight': 1 / 8,
            'stages.1.blocks.0.norm1.weight': 1 / 4,
            'stages.1.blocks.1.ffn.layers.1.bias': 1 / 2,
            'norm0.weight': 1,
        },
    ),
    'resnet': (
        RESNET,
        {
            'conv1.weight': 1 / 512,
            'bn1.weight': 1 / 512,
            'layer1.0.conv1.weight': 1 / 256,
            'layer4.0.downsample.0.weight': 1 / 4,
            'layer4.1.bn2.bias': 1 / 2,
        },
    ),
}


@pytest.mark.parametrize('name', LEARNING_RATES)
def test_learning_rate_decays_with_the_distance_from_the_head(name):
    cfg, expected = LEARNING_RATES[name]
    model = nn.Module()
    with DefaultScope.overwrite_default_scope('mmseg'):
        model.backbone = MODELS.build(cfg)
    model.decode_head = nn.Linear(2, 2)
    optimizer = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.5),
            constructor='mmfaseg.DecayFreeNormConstructor',
            paramwise_cfg=dict(decay_rate=0.5),
        ),
    ).optimizer
    names = {id(x): name for name, x in model.named_parameters()}
    groups = {names[id(x['params'][0])]: x for x in optimizer.param_groups}
    assert groups.keys() == set(names.values())
    found = {x: groups[f'backbone.{x}']['lr'] for x in expected}
    assert found == expected
    assert groups['decode_head.weight']['lr'] == 1
    assert groups['decode_head.weight']['weight_decay'] == 0.5
    norms = [x for x in groups if re.search(r'(norm\d?|ln\d|bn\d)\.', x)]
    assert norms
    assert all(groups[x]['weight_decay'] == 0 for x in norms)


@pytest.mark.parametrize(
    ('rate', 'message'),
    [
        (0, r'must be in \(0, 1\], got 0'),
        (1.5, r'must be in \(0, 1\], got 1\.5'),
        (0.5, 'decay_rate does not support this backbone'),
    ],
)
def test_unsupported_decay_rate_raises(rate, message):
    with pytest.raises(ValueError, match=message):
        build_optim_wrapper(
            _Model(),
            dict(
                type='OptimWrapper',
                optimizer=dict(type='SGD', lr=1.0),
                constructor='mmfaseg.DecayFreeNormConstructor',
                paramwise_cfg=dict(decay_rate=rate),
            ),
        )
