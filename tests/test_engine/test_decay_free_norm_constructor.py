import pytest
import torch
from mmengine.optim import build_optim_wrapper
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
