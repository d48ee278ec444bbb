"""Misspelled names in a config are reported with their place."""

import importlib.util

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from mmfaseg.models.layers import PositionalQuery
from mmfaseg.utils import command_line
from mmfaseg.utils.config_conflicts import check_conflicts
from mmfaseg.utils.config_names import check_names
from mmfaseg.utils.diagnostics import Diagnostics

CONFIG = 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'


@pytest.fixture(scope='module')
def demo(root):
    return Config.fromfile(root / CONFIG)


def diagnostics_of(cfg):
    diagnostics = Diagnostics()
    check_names(cfg, diagnostics)
    check_conflicts(cfg, diagnostics)
    return diagnostics.list()


def changed(cfg, **options):
    cfg = Config(cfg.to_dict())
    cfg.merge_from_dict(options)
    return cfg


@pytest.mark.smoke
def test_package_configs_have_no_diagnostics(root):
    paths = [
        path
        for path in sorted(root.glob('configs/*/*.py'))
        if '_base_' not in path.parts and 'convnext' not in path.stem
    ]
    assert len(paths) > 60
    for path in paths:
        assert diagnostics_of(Config.fromfile(path)) == [], path


MISSPELLED = {
    'model.decode_head.num_querys': 'num_queries',
    'model.decode_head.transformer_decoder.high_res_attention.omgea': 'omega',
    'model.decode_head.transformer_decoder.layer.num_head': 'num_heads',
    'model.decode_head.pixel_decoder.num_layer': 'num_layers',
    'model.decode_head.loss.no_object_weigth': 'no_object_weight',
    'model.backbone.deph': 'depth',
    'model.data_preprocessor.means': 'mean',
    'train_dataloader.batchsize': 'batch_size',
    'train_dataloader.dataset.lenght': 'length',
    'train_dataloader.sampler.shufle': 'shuffle',
    'test_evaluator.iou_metric': 'iou_metrics',
    'optim_wrapper.clip_grads': 'clip_grad',
    'optim_wrapper.optimizer.weight_decays': 'weight_decay',
    'param_scheduler.0.start_facter': 'start_factor',
    'train_cfg.max_iter': 'max_iters',
    'default_hooks.checkpoint.intervall': 'interval',
    'visualizer.alphas': 'alpha',
}


# classes with **kwargs, for which a warning is reported
WITH_KWARGS = (
    *('test_evaluator.iou_metric', 'param_scheduler.0.start_facter'),
    *('default_hooks.checkpoint.intervall', 'visualizer.alphas'),
)


@pytest.mark.parametrize('place', MISSPELLED)
def test_misspelled_argument_gets_suggestion(place, demo):
    (diagnostic,) = diagnostics_of(changed(demo, **{place: 1}))
    assert diagnostic.where == place
    assert diagnostic.is_error == (place not in WITH_KWARGS)
    assert diagnostic.remedy == f'did you mean {MISSPELLED[place]}?'


SHARDED = 'mmfaseg.FullyShardStrategy'


@pytest.mark.parametrize(
    ('settings', 'where', 'remedy'),
    [
        (
            dict(strategy=dict(type=SHARDED)),
            'strategy',
            "set runner_type = 'FlexibleRunner', or remove it",
        ),
        (
            dict(runner_type='FlexibleRunner', sync_bn='torch'),
            'sync_bn',
            'remove it, or move it into strategy',
        ),
        (
            dict(
                runner_type='FlexibleRunner',
                strategy=dict(type=SHARDED),
                custom_hooks=[dict(type='EMAHook')],
            ),
            'custom_hooks',
            'remove the hook, or the strategy',
        ),
        (
            dict(
                runner_type='FlexibleRunner',
                strategy=dict(type=SHARDED, block=['BasicBlock']),
            ),
            'strategy.block',
            'did you mean blocks?',
        ),
        (
            dict(
                runner_type='FlexibleRunner',
                strategy=dict(type=f'{SHARDED[:-1]}i'),
            ),
            'strategy.type',
            f'did you mean {SHARDED!r}?',
        ),
    ],
)
def test_strategy_settings_must_match_runner(demo, settings, where, remedy):
    cfg = Config(demo.to_dict() | settings)
    assert [(x.where, x.remedy) for x in diagnostics_of(cfg)] == [
        (where, remedy)
    ]


def test_epochs_need_a_finite_sampler(demo):
    epochs = dict(type='EpochBasedTrainLoop', max_epochs=2)
    cfg = changed(demo, **{'default_hooks.seeds': None})
    cfg.train_cfg = epochs
    (diagnostic,) = diagnostics_of(cfg)
    assert diagnostic.where == 'train_dataloader.sampler'
    assert "set train_dataloader.sampler.type='DefaultSampler'" in str(
        diagnostic
    )
    cfg.train_dataloader.sampler.type = 'DefaultSampler'
    assert diagnostics_of(cfg) == []
    for train_cfg in (epochs, dict(by_epoch=True, max_epochs=2)):
        cfg.train_cfg = train_cfg
        cfg.default_hooks.seeds = dict(type='mmfaseg.ExactResumeHook')
        (diagnostic,) = diagnostics_of(cfg)
        assert not diagnostic.is_error
        assert 'ExactResumeHook' in diagnostic.problem


def test_plain_transformers_need_a_neck(demo):
    vit = dict(type='VisionTransformer', embed_dims=192, out_indices=(2, 5))
    cfg = demo.to_dict()
    cfg['model']['backbone'] = vit
    (found,) = diagnostics_of(Config(cfg))
    neck = "model.neck=dict(type='mmseg.Feature2Pyramid', embed_dim=192, "
    assert neck in found.remedy
    cfg['model']['neck'] = dict(type='Feature2Pyramid', embed_dim=192)
    assert diagnostics_of(Config(cfg)) == []


def test_persistent_workers_need_workers(demo):
    cfg = changed(demo, **{'val_dataloader.num_workers': 0})
    (diagnostic,) = diagnostics_of(cfg)
    assert diagnostic.where == 'val_dataloader'
    assert 'persistent_workers=False' in diagnostic.remedy
    cfg.val_dataloader.persistent_workers = False
    assert diagnostics_of(cfg) == []


def test_shipped_strategy_has_no_diagnostics(root, demo):
    path = root / 'configs/_base_/strategies/fully_shard.py'
    cfg = Config(demo.to_dict() | Config.fromfile(path).to_dict())
    assert diagnostics_of(cfg) == []


CLASSES = {
    'model.decode_head.type': ('mmfaseg.FASegHed', 'mmfaseg.FASegHead'),
    'model.backbone.type': ('ResNett', 'ResNet'),
    'train_dataloader.dataset.type': ('ShapesDataset', None),
    'optim_wrapper.type': ('OptimWraper', 'OptimWrapper'),
    'optim_wrapper.optimizer.type': ('AdamWW', 'AdamW'),
    'train_cfg.type': ('IterBasedTrainLop', 'IterBasedTrainLoop'),
    'test_evaluator.type': ('IoUMetrics', 'IoUMetric'),
}


@pytest.mark.parametrize('place', CLASSES)
def test_unknown_class_gets_suggestion(place, demo):
    written, meant = CLASSES[place]
    if meant is None:  # the scope is missing
        meant = f'mmfaseg.{written}'
    found = diagnostics_of(changed(demo, **{place: written}))
    assert [x.where for x in found] == [place]
    assert found[0].problem == f'there is no {written!r}'
    assert found[0].remedy == f'did you mean {meant!r}?'


@pytest.mark.parametrize(
    ('written', 'meant'),
    [
        ('custom_hook', 'custom_hooks'),
        ('train_dataloder', 'train_dataloader'),
        ('optim_wraper', 'optim_wrapper'),
        ('param_schedulers', 'param_scheduler'),
        ('defaults_hooks', 'default_hooks'),
    ],
)
def test_misspelled_runner_keys_are_errors(written, meant, demo):
    (diagnostic,) = diagnostics_of(changed(demo, **{written: [1]}))
    assert diagnostic.where == written
    assert diagnostic.problem == 'mmengine ignores this key'
    assert diagnostic.remedy.startswith(f'did you mean {meant}?')


def test_missing_required_argument_is_an_error(demo):
    cfg = changed(demo)
    del cfg.model.decode_head['num_queries']
    del cfg.model.backbone['depth']
    cfg.train_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='mmfaseg.ImageCorruption', severity=1),
    ]
    found = {x.where: x.problem for x in diagnostics_of(cfg)}
    assert found == {
        'model.decode_head': 'FASegHead needs num_queries',
        'model.backbone': 'ResNet needs depth',
        'train_dataloader.dataset.pipeline.1': (
            'ImageCorruption needs corruption'
        ),
    }


def test_unknown_argument_lists_known_arguments(demo):
    place = 'model.decode_head.transformer_decoder.zzz'
    (diagnostic,) = diagnostics_of(changed(demo, **{place: 1}))
    assert diagnostic.where == place
    assert diagnostic.remedy.startswith(
        'choose from embed_dims, num_classes, '
    )


def test_misplaced_argument_is_reported_with_its_place(demo):
    head = 'model.decode_head'
    cfg = changed(
        demo,
        **{
            f'{head}.loss_dice': dict(loss_weight=5.0),
            f'{head}.transformer_decoder.omega': 8,
        },
    )
    found = {x.where: x.remedy for x in diagnostics_of(cfg)}
    assert found == {
        f'{head}.loss_dice': 'set loss.loss_dice_weight (its loss_weight)',
        f'{head}.transformer_decoder.omega': 'set high_res_attention.omega',
    }


class GatedQuery(PositionalQuery):
    """Positional query of a user, in a module of their own."""

    def __init__(self, embed_dims, gate):
        super().__init__(embed_dims)


def test_inherited_argument_of_a_custom_part_is_an_error(demo):
    place = 'model.decode_head.transformer_decoder.positional_query'
    settings = dict(type=GatedQuery, gate=1.0, init_pool='learned')
    (diagnostic,) = diagnostics_of(changed(demo, **{place: settings}))
    assert diagnostic.is_error
    assert diagnostic.where == f'{place}.init_pool'
    assert diagnostic.remedy == (
        'choose from embed_dims, gate. If the base config sets it, add '
        f'_delete_=True to {place}'
    )


@pytest.mark.parametrize('name', ['PolyLR', 'CosineAnnealingLR'])
def test_learning_rate_of_zero_before_the_end_is_a_warning(demo, name):
    cfg = changed(demo, **{'train_cfg.max_iters': 1000})
    cfg.param_scheduler[-1] = dict(type=name, end=900, by_epoch=False)
    (diagnostic,) = diagnostics_of(cfg)
    assert not diagnostic.is_error
    assert 'is 0 from iteration 900 on' in diagnostic.problem
    cfg.param_scheduler[-1]['eta_min'] = 1e-6
    assert diagnostics_of(cfg) == []
    cosine = dict(type='CosineAnnealingLR', end=900, by_epoch=False)
    for option in (dict(eta_min_ratio=0.05), dict(T_max=2000)):
        cfg.param_scheduler[-1] = cosine | option
        assert diagnostics_of(cfg) == []


def test_arguments_of_open_classes_are_warnings(demo):
    cfg = changed(demo, **{'model.auxiliary_head.num_class': 3})
    (diagnostic,) = diagnostics_of(cfg)
    assert not diagnostic.is_error
    assert diagnostic.remedy == 'did you mean num_classes?'
    command_line.check_names(cfg)


def test_auxiliary_head_for_another_backbone_is_an_error(demo):
    head = demo.model.auxiliary_head
    stages = demo.model.decode_head.in_channels
    assert head.in_channels == stages[head.in_index]
    (diagnostic,) = diagnostics_of(
        changed(demo, **{'model.auxiliary_head.in_channels': 3})
    )
    assert diagnostic.where == 'model.auxiliary_head.in_channels'
    assert diagnostic.is_error
    assert diagnostic.remedy == (
        f'set model.auxiliary_head.in_channels={head.in_channels}, or '
        'model.auxiliary_head=None'
    )
    wrong = dict(head, in_index=-1, in_channels=3)
    assert wrong['in_channels'] != stages[-1]
    cfg = changed(demo, **{'model.auxiliary_head': [head, wrong]})
    (diagnostic,) = diagnostics_of(cfg)
    assert diagnostic.where == 'model.auxiliary_head.1.in_channels'


def test_channels_of_other_decode_heads_are_not_compared(demo):
    """As for mmseg's EncNet, which reads stages 1 to 3."""
    head = dict(type='EncHead', in_channels=[8, 9, 10], in_index=(1, 2, 3))
    auxiliary = dict(demo.model.auxiliary_head, in_index=2, in_channels=9)
    cfg = Config(demo.to_dict())
    for heads in (
        dict(decode_head=head, auxiliary_head=auxiliary),
        dict(decode_head=dict(in_channels=8), auxiliary_head=auxiliary),
        dict(
            decode_head=dict(in_channels=[7, 8, 9, 10]),
            auxiliary_head=[dict(in_index=[1, 2], in_channels=[5, 6]), None],
        ),
    ):
        cfg.model.update(heads)
        diagnostics = Diagnostics()
        check_conflicts(cfg, diagnostics)
        assert diagnostics.list() == [], heads


def test_classes_in_place_of_their_names_and_pretrained_weights(demo):
    from mmfaseg.models import FASegHead

    cfg = demo.to_dict()
    cfg['model']['decode_head']['type'] = FASegHead
    cfg['model']['backbone']['init_cfg'] = dict(
        type='Pretrained', checkpoint='x.pth'
    )
    cfg['my_own_variable'] = dict(type='nothing')
    assert diagnostics_of(Config(cfg)) == []
    cfg['model']['decode_head']['num_querys'] = 3
    (diagnostic,) = diagnostics_of(Config(cfg))
    assert diagnostic.remedy == 'did you mean num_queries?'


@pytest.mark.parametrize(
    ('kind', 'package'),
    [
        ('TIMMBackbone', 'timm'),
        ('mmseg.TIMMBackbone', 'timm'),
        ('mmpretrain.ConvNeXt', 'mmpretrain'),
        ('no_package.models.Backbone', 'no-package'),
    ],
)
def test_missing_package_of_a_class_is_named(kind, package, demo, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    cfg = changed(demo, **{'model.backbone.type': kind})
    (found,) = diagnostics_of(cfg)
    assert found.where == 'model.backbone.type'
    assert found.remedy == f'run `pip install {package}`'


@pytest.mark.parametrize('kind', [None, '', '.'])
def test_invalid_type_is_an_error(kind, demo):
    cfg = changed(demo, custom_hooks=[dict(type=kind)], default_scope=None)
    (diagnostic,) = diagnostics_of(cfg)
    assert diagnostic.where == 'custom_hooks.0.type'
    assert diagnostic.problem == f'{kind!r} is not a class'


def test_other_config_variables_are_ignored(demo):
    assert diagnostics_of(changed(demo, train_dataloader_2=1, lr=2)) == []


def test_all_errors_are_reported_at_once(demo):
    cfg = changed(demo, custom_hook=[], **{'model.backbone.deph': 18})
    with pytest.raises(SystemExit) as raised:
        command_line.check_names(cfg)
    assert 'custom_hooks' in str(raised.value)
    assert 'model.backbone.deph' in str(raised.value)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_single_letter_errors_are_found(data, demo):
    """In all arguments of the demo config with more than five letters."""
    cfg = Config(demo.to_dict())
    parts = {
        'model.decode_head': cfg.model.decode_head,
        'decoder': cfg.model.decode_head.transformer_decoder,
        'pixel decoder': cfg.model.decode_head.pixel_decoder,
        'loss': cfg.model.decode_head.loss,
        'data': cfg.train_dataloader.dataset,
        'loader': cfg.train_dataloader,
        'optimizer': cfg.optim_wrapper.optimizer,
        'loop': cfg.train_cfg,
    }
    part = parts[data.draw(st.sampled_from(sorted(parts)))]
    names = [x for x in sorted(part) if len(x) > 5]
    name = data.draw(st.sampled_from(names))
    at = data.draw(st.integers(1, len(name) - 1))
    letter = data.draw(st.sampled_from(['', 'x', name[at]]))
    rest = name[at + 1 :] if letter == '' else name[at:]
    wrong = name[:at] + letter + rest
    if wrong in part:
        return
    part[wrong] = part[name]
    found = diagnostics_of(cfg)
    assert [x.remedy for x in found] == [f'did you mean {name}?']
