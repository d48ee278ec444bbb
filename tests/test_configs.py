"""Every config parses, builds, predicts and keeps the house style."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from experiments import ALL_PATHS, EXPERIMENTS, ROOT
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS, TRANSFORMS
from mmseg.structures import SegDataSample
from torch import nn

METAFILE = yaml.safe_load((ROOT / 'configs/faseg/metafile.yaml').read_text())
METADATA = {x['Name']: x['Metadata'] for x in METAFILE['Models']}
# millions counted in the authors' models, and how exactly they are known;
# the authors do not count frozen batch norm, 0.053 M
PUBLISHED = {
    'faseg_r50_8xb2-160k_ade20k-512x512': (50.512 + 0.053, 1e-3),
    'faseg_r50_8xb2-90k_cityscapes-512x1024': (50.531, 1e-3),
    'faseg_swin-t_8xb2-160k_ade20k-512x512': (53.922, 1e-3),
    'faseg_swin-b-in22k-384x384-pre_8xb2-160k_ade20k-640x640': (113.41, 5e-3),
    'faseg_swin-l-in22k-384x384-pre_8xb2-160k_ade20k-640x640': (222.0, 0.05),
}


@pytest.fixture(scope='module')
def backbones():
    """Backbones that are built, by their settings: they cost the time."""
    return {}


@pytest.fixture(scope='module')
def finished(request):
    """The configs that ran forward; their number is printed at the end."""
    names = set()
    yield names
    capture = request.config.pluginmanager.getplugin('capturemanager')
    with capture.global_and_fixture_disabled():
        request.config.get_terminal_writer().line(
            f'\n{len(names)} of {len(EXPERIMENTS)} configs parsed, built and '
            'ran forward'
        )


@pytest.fixture(scope='module', params=EXPERIMENTS, ids=lambda x: x.stem)
def experiment(request, backbones):
    """A config and its model: no weights, batch norm for one process."""
    if 'convnext' in request.param.stem:
        for package in ('torchvision', 'mmpretrain'):
            pytest.importorskip(package, reason="ConvNeXt is mmpretrain's")
    cfg = Config.fromfile(request.param)
    init_default_scope(cfg.default_scope)
    backbone = cfg.model.backbone
    backbone.init_cfg = None
    if backbone.get('norm_cfg', {}).get('type') == 'SyncBN':
        backbone.norm_cfg.type = 'BN'
    key = str(backbone)
    if key not in backbones:
        backbones[key] = MODELS.build(backbone)
    cfg.model.backbone = dict(type=nn.Identity)
    model = MODELS.build(cfg.model)
    model.backbone = backbones[key]
    return SimpleNamespace(name=request.param.stem, cfg=cfg, model=model)


def test_config_builds_and_predicts(experiment, finished):
    """An image of 60x90, which the preprocessor pads to 64x96."""
    image = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    sample = SegDataSample(
        metainfo=dict(img_shape=(60, 90), ori_shape=(60, 90))
    )
    model = experiment.model.eval()
    with torch.no_grad():
        (result,) = model.test_step(
            dict(inputs=[image], data_samples=[sample])
        )
    assert result.pad_shape == (64, 96)
    classes = experiment.cfg.model.decode_head.num_classes
    assert result.seg_logits.data.shape == (classes, 60, 90)
    assert result.seg_logits.data.isfinite().all()
    finished.add(experiment.name)


def test_parameters_are_those_of_the_metafile_and_the_authors(experiment):
    """Without heads that only training needs."""
    model = experiment.model
    parts = (model.backbone, model.decode_head)
    count = sum(x.numel() for part in parts for x in part.parameters())
    if experiment.name in METADATA:
        assert METADATA[experiment.name]['Parameters'] == count
    if experiment.name in PUBLISHED:
        millions, margin = PUBLISHED[experiment.name]
        assert count / 1e6 == pytest.approx(millions, abs=margin)


@ALL_PATHS
def test_config_shows_only_the_difference(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 40
    assert not [x for x in lines if "'/" in x], 'an absolute path'
    assert not [x for x in lines if '::' in x], "another package's config"


@ALL_PATHS
def test_config_loads_mmfaseg_by_itself(path):
    cfg = Config.fromfile(path, import_custom_modules=False)
    assert 'mmfaseg' in cfg.custom_imports.imports
    is_detector = path.parent.name == 'faseg_coco'
    assert cfg.default_scope == ('mmdet' if is_detector else 'mmseg')


@pytest.mark.parametrize(
    ('short', 'size', 'resized', 'padded'),
    [
        (512, (300, 2500), (246, 2048), (256, 2048)),
        (512, (683, 512), (683, 512), (704, 512)),
        (512, (768, 1024), (512, 683), (512, 704)),
        (512, (256, 256), (512, 512), (512, 512)),
        (640, (300, 3000), (256, 2560), (256, 2560)),
        (640, (512, 683), (640, 854), (640, 864)),
    ],
)
def test_ade20k_is_tested_at_the_size_of_the_paper(
    short, size, resized, padded
):
    """Short side 512 or 640, long side at most 4 times that, padded to 32."""
    paths = [x for x in EXPERIMENTS if f'ade20k-{short}x' in x.stem]
    assert len(paths) >= 3
    for path in paths:
        cfg = Config.fromfile(path)
        init_default_scope(cfg.default_scope)
        dataset = cfg.test_dataloader.dataset
        (resize,) = (x for x in dataset.pipeline if x['type'] == 'Resize')
        image = np.zeros((*size, 3), np.uint8)
        image = TRANSFORMS.build(resize)(dict(img=image))['img']
        assert image.shape[:2] == resized
        image = torch.from_numpy(image).permute(2, 0, 1)
        batch = MODELS.build(cfg.model.data_preprocessor)(
            dict(inputs=[image], data_samples=[SegDataSample()])
        )
        assert tuple(batch['inputs'].shape[2:]) == padded


def test_swin_recipe_spares_norms_and_embeddings_and_slows_the_backbone():
    path = ROOT / 'configs/faseg/faseg_swin-t_8xb2-160k_ade20k-512x512.py'
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    groups = {
        id(parameter): group
        for group in optimizer.param_groups
        for parameter in group['params']
    }
    free = []
    for name, parameter in model.named_parameters():
        group = groups.pop(id(parameter))
        in_backbone = name.startswith('backbone.')
        assert group['lr'] == pytest.approx(1e-5 if in_backbone else 1e-4)
        assert group['weight_decay'] in (0.0, 0.05)
        if group['weight_decay'] == 0:
            free.append(name)
    assert not groups
    embeddings = ('query_feat', 'query_embed', 'level_embed')
    assert free == [
        name
        for name, _ in model.named_parameters()
        if re.search(r'norm\d?\.|relative_position_bias_table', name)
        or name.split('.')[-2] in embeddings
        # Sequential(convolution, GroupNorm)
        or re.search(r'(input_projs\.\d|_conv)\.1\.', name)
    ]
    assert sum('relative_position_bias_table' in name for name in free) == 12


@pytest.mark.parametrize(
    'experiment_name',
    [
        'r18_1xb8-20k_camvid-360x480',
        'r50_1xb8-20k_camvid-360x480',
        'r18_1xb8-3k_shapes-128x128',
        'r18_1xb8-3k_shapes-256x256',
    ],
)
def test_baseline_has_the_schedule_and_data_of_faseg(experiment_name):
    """Only the head differs."""
    ours = ROOT / f'configs/faseg/faseg_{experiment_name}.py'
    peer = ROOT / f'configs/mask2former/mask2former_{experiment_name}.py'
    ours, peer = Config.fromfile(ours), Config.fromfile(peer)
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert ours[key] == peer[key]
    assert ours.train_dataloader == peer.train_dataloader
    assert ours.model.backbone == peer.model.backbone
    ours, peer = ours.model.decode_head, peer.model.decode_head
    for key in ('in_channels', 'num_classes', 'feat_channels', 'num_queries'):
        assert ours[key] == peer[key]
    assert ours.loss.num_points == peer.train_cfg.num_points
