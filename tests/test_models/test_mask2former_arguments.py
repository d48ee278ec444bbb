"""Arguments of Mask2Former in a FASeg config raise with their place."""

import copy
import re

import pytest
from decoder_parts import CONDITIONAL, DECODER
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS as MMSEG_MODELS
from test_faseg_head import MODEL

from mmfaseg.models import (
    FASegDecoder,
    FASegDetHead,
    FASegHead,
    FASegPixelDecoder,
)
from mmfaseg.utils.config_classes import init_arguments
from mmfaseg.utils.mask2former_arguments import (
    DET_HEAD,
    PIXEL_DECODER,
    SEMANTIC_HEAD,
    TRAIN_CFG,
    TRANSFORMER_DECODER,
)

DECODE_HEAD = {k: v for k, v in MODEL['decode_head'].items() if k != 'type'}
PLACES = [
    'num_points: set loss.num_points',
    'assigner: remove it, the matching costs have the weights',
    'sampler: remove it',
    'unknown: remove it',
]


def semantic_head(**arguments):
    return FASegHead(**copy.deepcopy(DECODE_HEAD), **arguments)


def det_head(**arguments):
    config = copy.deepcopy(DECODE_HEAD)
    del config['num_classes']
    return FASegDetHead(
        **config, num_things_classes=3, num_stuff_classes=0, **arguments
    )


def pixel_decoder(**arguments):
    return FASegPixelDecoder(
        [8, 16, 32, 64],
        16,
        norm_cfg=dict(type='GN', num_groups=4),
        positional_encoding=CONDITIONAL,
        **arguments,
    )


def transformer_decoder(**arguments):
    return FASegDecoder(16, 4, 6, **DECODER, **arguments)


def detector(train_cfg):
    init_default_scope('mmdet')
    config = copy.deepcopy(DECODE_HEAD)
    del config['num_classes']
    classes = dict(num_things_classes=3, num_stuff_classes=0)
    return MMDET_MODELS.build(
        ConfigDict(
            type='Mask2Former',
            backbone=copy.deepcopy(MODEL['backbone']),
            panoptic_head=dict(config, type='mmfaseg.FASegDetHead', **classes),
            panoptic_fusion_head=dict(type='MaskFormerFusionHead', **classes),
            train_cfg=train_cfg,
            test_cfg=dict(),
        )
    )


@pytest.mark.parametrize(
    ('build', 'kind', 'remedies'),
    [
        (semantic_head, FASegHead, SEMANTIC_HEAD),
        (det_head, FASegDetHead, DET_HEAD),
        (pixel_decoder, FASegPixelDecoder, PIXEL_DECODER),
        (transformer_decoder, FASegDecoder, TRANSFORMER_DECODER),
    ],
)
def test_every_misplaced_argument_raises_with_its_remedy(
    build, kind, remedies
):
    for name, remedy in remedies.items():
        with pytest.raises(TypeError) as error:
            build(**{name: None})
        message = str(error.value)
        assert message.startswith(f'{kind.__name__} does not have'), name
        assert f'{name}: {remedy}' in message
    names, is_open = init_arguments(kind)
    assert not is_open and not set(names) & set(remedies)


def test_head_of_a_mask2former_config_raises_with_all_arguments(root):
    cfg = Config.fromfile(root / 'configs/_base_/models/mask2former_r50.py')
    head = dict(cfg.model.decode_head, type='mmfaseg.FASegHead')
    with pytest.raises(TypeError) as error:
        MMSEG_MODELS.build(head)
    own, _ = init_arguments(FASegHead)
    misplaced = set(head) - {'type', *own}
    assert len(misplaced) == 8
    for name in misplaced:
        assert f'\n  {name}: {SEMANTIC_HEAD[name]}' in str(error.value)


def test_remedies_name_arguments_of_the_loss():
    init_default_scope('mmseg')
    loss, _ = init_arguments(type(semantic_head().loss_module))
    remedies = ' '.join((*SEMANTIC_HEAD.values(), *TRAIN_CFG.values()))
    assert set(re.findall(r'\bloss\.(\w+)', remedies)) <= set(loss)


@pytest.mark.parametrize('build', [semantic_head, det_head])
@pytest.mark.parametrize('train_cfg', [None, dict(), ConfigDict()])
def test_empty_train_cfg_is_accepted(build, train_cfg):
    build(train_cfg=train_cfg)


@pytest.mark.parametrize('build', [semantic_head, det_head, detector])
def test_train_cfg_with_settings_raises(build):
    train_cfg = ConfigDict(num_points=9, assigner={}, sampler={}, unknown=1)
    with pytest.raises(ValueError, match=r'Head reads no.*train_cfg') as error:
        build(train_cfg=train_cfg)
    for place in PLACES:
        assert place in str(error.value)


def test_train_cfg_of_the_model_raises_in_the_loss():
    """mmseg passes it to ``loss``, not to the head."""
    head = semantic_head()
    with pytest.raises(ValueError, match=r'num_points: set loss\.num_points'):
        head.loss([], [], dict(num_points=9))
