"""Every config parses, builds, runs forward and keeps the house style."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

ROOT = Path(__file__).parent.parent
EXPERIMENTS = sorted(
    path
    for path in ROOT.glob('configs/*/*.py')
    if path.parent.name != '_base_'
)


def _names(paths):
    return [path.stem for path in paths]


def _build(path, **head):
    """Builds a model without weights, batch norm for one process."""
    if 'convnext' in path.stem:
        for package in ('torchvision', 'mmpretrain'):
            pytest.importorskip(package, reason="ConvNeXt is mmpretrain's")
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    if cfg.model.backbone.get('norm_cfg', {}).get('type') == 'SyncBN':
        cfg.model.backbone.norm_cfg.type = 'BN'
    cfg.model.decode_head.update(head)
    return cfg, MODELS.build(cfg.model)


@pytest.mark.parametrize('path', EXPERIMENTS, ids=_names(EXPERIMENTS))
def test_config_builds_and_predicts(path):
    cfg, model = _build(path)
    head = cfg.model.decode_head
    size = cfg.model.data_preprocessor.size
    padding = [a - b for a, b in zip(size, cfg.crop_size, strict=True)]
    assert all(0 <= x < 32 for x in padding)
    model.eval()
    meta = dict(img_shape=(64, 96), pad_shape=(64, 96))
    with torch.no_grad():
        feats = model.extract_feat(torch.randn(1, 3, 64, 96))
        result = model.decode_head.predict(feats, [meta], {})
    assert result.shape[:2] == (1, head.num_classes)
    assert result.isfinite().all()


@pytest.mark.parametrize('path', EXPERIMENTS, ids=_names(EXPERIMENTS))
def test_config_shows_only_the_difference(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 40
    assert not [x for x in lines if "'/" in x], 'an absolute path'


@pytest.mark.parametrize('path', EXPERIMENTS, ids=_names(EXPERIMENTS))
def test_config_loads_mmfaseg_by_itself(path):
    cfg = Config.fromfile(path, import_custom_modules=False)
    assert 'mmfaseg' in cfg.custom_imports.imports
    assert cfg.default_scope == 'mmseg'


@pytest.mark.parametrize(
    ('name', 'millions'),
    [
        # counted in the authors' models; frozen batch norm counts 0.053 here
        ('faseg_r50_8xb2-160k_ade20k-512x512', 50.512 + 0.053),
        ('faseg_swin-t_8xb2-160k_ade20k-512x512', 53.922),
        ('faseg_r50_8xb2-90k_cityscapes-512x1024', 50.531),
    ],
)
def test_parameters_are_the_published_ones(name, millions):
    _, model = _build(ROOT / f'configs/faseg/{name}.py')
    count = sum(x.numel() for x in model.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=1e-3)


@pytest.mark.parametrize(
    'experiment',
    [
        'r18_1xb8-20k_camvid-360x480',
        'r50_1xb8-20k_camvid-360x480',
        'r18_1xb8-3k_shapes-128x128',
        'r18_1xb8-3k_shapes-256x256',
    ],
)
def test_baseline_has_the_schedule_and_data_of_faseg(experiment):
    """Only the head differs."""
    ours = ROOT / f'configs/faseg/faseg_{experiment}.py'
    peer = ROOT / f'configs/mask2former/mask2former_{experiment}.py'
    ours, peer = Config.fromfile(ours), Config.fromfile(peer)
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert ours[key] == peer[key]
    assert ours.train_dataloader == peer.train_dataloader
    assert ours.model.backbone == peer.model.backbone
    ours, peer = ours.model.decode_head, peer.model.decode_head
    for key in ('in_channels', 'num_classes', 'feat_channels', 'num_queries'):
        assert ours[key] == peer[key]
    assert ours.loss.num_points == peer.train_cfg.num_points
