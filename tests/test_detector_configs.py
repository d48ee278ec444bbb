"""Detector configs build, predict and match their names."""

import re
from pathlib import Path

import mmdet
import pytest
import torch
from experiments import DETECTORS, ROOT
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope

FOLDER = ROOT / 'configs/faseg_coco'
MMDET = Path(mmdet.__file__).parent / '.mim/configs/mask2former'
NAME = re.compile(
    r'(?P<method>faseg|mask2former)_(?P<backbone>[^_]+)'
    r'_(?P<gpus>\d+)xb(?P<batch>\d+)-(?P<schedule>\w+)'
    r'_(?P<data>\w+)-(?P<task>instance|panoptic)'
    r'-(?P<height>\d+)x(?P<width>\d+)'
)
CLASSES = {
    ('coco', 'instance'): (80, 0),
    ('coco', 'panoptic'): (80, 53),
    ('shapes', 'instance'): (4, 0),
    ('shapes', 'panoptic'): (4, 3),
    ('dsb2018', 'instance'): (1, 0),
}
PATHS = pytest.mark.parametrize('path', DETECTORS, ids=lambda x: x.stem)
PEERS = pytest.mark.parametrize(
    'peer',
    [x for x in DETECTORS if x.stem.startswith('mask2former')],
    ids=lambda x: x.stem,
)


def load(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    return cfg


def table():
    """Returns the rows of the page by config name."""
    rows = {}
    for line in (FOLDER / 'README.md').read_text().splitlines():
        if match := re.match(r'\| \[(\w[^\]]+)\]\(\1\.py\) \|', line):
            rows[match[1]] = [x.strip() for x in line.split('|')[2:-1]]
    return rows


def test_page_lists_all_configs():
    assert sorted(table()) == sorted(x.stem for x in DETECTORS)


@pytest.mark.smoke
@PATHS
def test_config_builds_and_predicts(path):
    """An image of 60x90, which the preprocessor pads to 64x96."""
    cfg = load(path)
    model = MODELS.build(cfg.model).eval()
    millions = sum(x.numel() for x in model.parameters()) / 1e6
    assert f'{millions:.2f}' == table()[path.stem][-2]
    sample = DetDataSample(
        metainfo=dict(img_shape=(60, 90), ori_shape=(30, 45), img_id=0)
    )
    image = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    with torch.no_grad():
        (result,) = model.test_step(
            dict(inputs=[image], data_samples=[sample])
        )
    assert result.batch_input_shape == (64, 96)
    if cfg.model.test_cfg.panoptic_on:
        assert result.pred_panoptic_seg.sem_seg.shape == (1, 30, 45)
    if cfg.model.test_cfg.instance_on:
        found = result.pred_instances
        things = len(found.scores)
        assert found.masks.shape == (things, 30, 45)
        if not cfg.model.panoptic_head.num_stuff_classes:
            assert things == cfg.model.test_cfg.max_per_image


@PATHS
def test_config_matches_its_name(path):
    name = NAME.fullmatch(path.stem)
    cfg = Config.fromfile(path)
    batch = int(name['batch'])
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == batch * int(name['gpus'])
    if name['schedule'] == '50e':
        images = cfg.train_cfg.max_iters * batch * int(name['gpus'])
        assert round(images / 118000) == 50
    elif name['schedule'] != 'demo':
        assert f'{cfg.train_cfg.max_iters // 1000}k' == name['schedule']
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters
    assert tuple(cfg.crop_size) == (int(name['height']), int(name['width']))
    kind = dict(instance='CocoDataset', panoptic='CocoPanopticDataset')
    for loader in ('train', 'val', 'test'):
        dataset = cfg[f'{loader}_dataloader'].dataset
        assert dataset.type == kind[name['task']]
        assert name['data'] in dataset.data_root
    head = cfg.model.panoptic_head
    ours = name['method'] == 'faseg'
    assert (head.type == 'mmfaseg.FASegDetHead') == ours
    assert cfg.model.type == 'Mask2Former'


@PATHS
def test_all_parts_have_the_classes_of_the_data(path):
    name = NAME.fullmatch(path.stem)
    cfg = Config.fromfile(path)
    expected = CLASSES[name['data'], name['task']]
    for part in ('panoptic_head', 'panoptic_fusion_head'):
        part = cfg.model[part]
        assert (part.num_things_classes, part.num_stuff_classes) == expected
    if 'loss_cls' in cfg.model.panoptic_head:
        weights = cfg.model.panoptic_head.loss_cls.class_weight
        assert weights == [1.0] * sum(expected) + [0.1]
    metainfo = cfg.train_dataloader.dataset.get('metainfo')
    if metainfo is not None:
        assert len(metainfo.classes) == len(metainfo.palette)
        assert len(metainfo.classes) == sum(expected)
    for loader in ('val', 'test'):
        dataset = cfg[f'{loader}_dataloader'].dataset
        assert dataset.get('metainfo') == metainfo
    stuff = expected[1] > 0
    assert cfg.model.test_cfg.panoptic_on == stuff
    assert cfg.model.data_preprocessor.pad_seg == stuff


@PEERS
def test_baseline_has_the_schedule_data_and_sizes_of_faseg(peer):
    """Only the head differs."""
    ours = Config.fromfile(
        peer.with_stem(peer.stem.replace('mask2former', 'faseg'))
    )
    peer = Config.fromfile(peer)
    for key in (
        'optim_wrapper',
        'param_scheduler',
        'train_cfg',
        'train_dataloader',
        'val_dataloader',
        'val_evaluator',
    ):
        assert ours[key] == peer[key], key
    for key in ('backbone', 'data_preprocessor', 'test_cfg'):
        assert ours.model[key] == peer.model[key], key
    head, other = ours.model.panoptic_head, peer.model.panoptic_head
    for key in ('in_channels', 'feat_channels', 'num_queries'):
        assert head[key] == other[key], key
    for key in ('num_points', 'oversample_ratio', 'importance_sample_ratio'):
        assert head.loss[key] == peer.model.train_cfg[key], key


def mmdet_config(name):
    path = MMDET / name
    if not path.is_file():
        pytest.skip('this mmdet does not contain its configs')
    return Config.fromfile(path)


def steps(pipeline):
    """Returns a pipeline without arguments that mmdet sets to defaults.

    ``to_float32`` does not affect testing.
    """
    defaults = {'backend_args', 'resize_type', 'to_float32'}
    return [
        {k: v for k, v in step.items() if k not in defaults}
        for step in pipeline
    ]


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [
        (
            'faseg_r50_8xb2-50e_coco-instance-1024x1024.py',
            'mask2former_r50_8xb2-lsj-50e_coco.py',
        ),
        (
            'faseg_r50_8xb2-50e_coco-panoptic-1024x1024.py',
            'mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
        ),
        (
            'faseg_swin-t_8xb2-50e_coco-instance-1024x1024.py',
            'mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py',
        ),
    ],
)
def test_recipe_on_coco_is_that_of_mmdet(ours, theirs):
    ours, theirs = Config.fromfile(FOLDER / ours), mmdet_config(theirs)
    assert ours.train_cfg == theirs.train_cfg
    (scheduler,) = ours.param_scheduler
    assert scheduler == theirs.param_scheduler
    for key in ('lr', 'weight_decay', 'type'):
        assert (
            ours.optim_wrapper.optimizer[key]
            == (theirs.optim_wrapper.optimizer[key])
        )
    assert ours.optim_wrapper.clip_grad == theirs.optim_wrapper.clip_grad
    for loader in ('train_dataloader', 'val_dataloader'):
        mine, other = ours[loader].dataset, theirs[loader].dataset
        for key in ('type', 'data_root', 'ann_file'):
            assert mine[key] == other[key], key
        # mmdet's instance config inherits the maps of its panoptic config
        assert mine.data_prefix.items() <= other.data_prefix.items()
    assert steps(ours.train_dataloader.dataset.pipeline) == steps(
        theirs.train_dataloader.dataset.pipeline
    )
    assert steps(ours.val_dataloader.dataset.pipeline) == steps(
        theirs.val_dataloader.dataset.pipeline
    )
    mine, other = ours.train_dataloader, theirs.train_dataloader
    assert mine.batch_size == other.batch_size
    assert mine.batch_sampler == other.batch_sampler
    assert mine.dataset.filter_cfg == other.dataset.filter_cfg
    assert ours.env_cfg.cudnn_benchmark == theirs.env_cfg.cudnn_benchmark
    mine, other = ours.model.test_cfg, theirs.model.test_cfg
    assert mine == other | dict(instance_on=True)
    metrics = [
        [{k: v for k, v in x.items() if k not in skipped} for x in evaluators]
        for skipped in [('backend_args', 'format_only')]
        for cfg in (ours, theirs)
        for evaluators in [
            cfg.val_evaluator
            if isinstance(cfg.val_evaluator, list)
            else [cfg.val_evaluator]
        ]
    ]
    assert metrics[0] == metrics[1]
    mine, other = ours.model.data_preprocessor, theirs.model.data_preprocessor
    for key in (
        *('mean', 'std', 'bgr_to_rgb', 'pad_size_divisor'),
        *('pad_mask', 'pad_seg'),
    ):
        assert mine[key] == other[key], key
    mine, other = (
        [MODELS.build(x) for x in preprocessor.batch_augments]
        for preprocessor in (mine, other)
    )
    assert [vars(x) for x in mine] == [vars(x) for x in other]


def test_swin_weights_are_loaded(tmp_path):
    """From a file like mmseg's, whose names have no prefix."""
    cfg = load(FOLDER / 'faseg_swin-t_8xb2-50e_coco-instance-1024x1024.py')
    semantic = Config.fromfile(ROOT / 'configs/_base_/models/faseg_swin-t.py')
    assert semantic.checkpoint == cfg.checkpoint
    settings = cfg.model.backbone
    state = {
        name: torch.full_like(value, 0.25)
        if value.is_floating_point()
        else value
        for name, value in MODELS.build(settings).state_dict().items()
    }
    path = tmp_path / 'swin.pth'
    torch.save(dict(state_dict=state), path)
    settings.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    backbone = MODELS.build(settings)
    backbone.init_weights()
    assert all((x == 0.25).all() for x in backbone.parameters())


def test_decoders_are_those_of_the_semantic_model():
    detector = Config.fromfile(ROOT / 'configs/_base_/models/faseg_det_r50.py')
    semantic = Config.fromfile(ROOT / 'configs/_base_/models/faseg_r50.py')
    head, other = detector.model.panoptic_head, semantic.model.decode_head
    for key in ('pixel_decoder', 'transformer_decoder', 'loss'):
        assert head[key] == other[key]
    small = Config.fromfile(
        ROOT / 'configs/_base_/models/faseg_det_r18_study.py'
    )
    study = Config.fromfile(ROOT / 'configs/_base_/models/faseg_r18_study.py')
    head, other = small.model.panoptic_head, study.model.decode_head
    for key in (
        'in_channels',
        'feat_channels',
        'num_queries',
        'pixel_decoder',
        'transformer_decoder',
        'loss',
    ):
        assert head[key] == other[key]
    assert small.model.backbone == study.model.backbone
