"""All configs parse, build, predict and follow the config conventions."""

import ast
import copy
import functools
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from experiments import DETECTORS, EXPERIMENTS, ROOT, load
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS, TRANSFORMS
from mmseg.structures import SegDataSample
from torch import nn

import mmfaseg  # noqa: F401  registers its classes

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


@functools.cache
def build_backbone(settings: str) -> nn.Module:
    """Builds each backbone once: backbones take most of the time."""
    return MODELS.build(ast.literal_eval(settings))


def load_without_weights(path: Path) -> Config:
    """Returns a config for one process that downloads no weights."""
    cfg = load(path)
    backbone = cfg.model.backbone
    backbone.init_cfg = None
    if backbone.get('norm_cfg', {}).get('type') == 'SyncBN':
        backbone.norm_cfg.type = 'BN'
    return cfg


def buildable(paths: Iterable[Path]) -> list[Path]:
    """Returns the paths without ConvNeXt if its packages are missing."""
    packages = ('torchvision', 'mmpretrain')
    if all(importlib.util.find_spec(x) for x in packages):
        return list(paths)
    return [x for x in paths if 'convnext' not in x.stem]


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.mark.slow
def test_each_architecture_predicts():
    """An image of 60x90, which the preprocessor pads to 64x96."""
    architectures = {}
    for path in buildable(EXPERIMENTS):
        cfg = load_without_weights(path)
        head = dict(cfg.model.decode_head.items())
        for key in ('num_classes', 'loss', 'loss_cls', 'train_cfg'):
            head.pop(key, None)
        key = f'{cfg.model.type} {cfg.model.backbone} {head}'
        architectures.setdefault(key, (path, cfg))
    image = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    meta = dict(img_shape=(60, 90), ori_shape=(60, 90))
    for path, cfg in architectures.values():
        settings = str(cfg.model.backbone.to_dict())
        cfg.model.backbone = dict(type=nn.Identity)
        model = MODELS.build(cfg.model)
        model.backbone = build_backbone(settings)
        model.eval()
        sample = SegDataSample(metainfo=dict(meta))
        data = dict(inputs=[image], data_samples=[sample])
        with torch.no_grad():
            (result,) = model.test_step(copy.deepcopy(data))
            model.test_cfg.return_logits = True
            (full,) = model.test_step(data)
        assert result.pad_shape == (64, 96), path.stem
        assert torch.equal(result.pred_sem_seg.data, full.pred_sem_seg.data)
        scores = full.seg_logits.data
        assert scores.shape == (cfg.model.decode_head.num_classes, 60, 90)
        assert scores.isfinite().all(), path.stem


@pytest.mark.slow
def test_parameters_equal_the_metafile_and_the_authors_count():
    """Heads that only training needs are not counted."""
    for path in buildable(EXPERIMENTS):
        cfg = load_without_weights(path)
        backbone = build_backbone(str(cfg.model.backbone.to_dict()))
        with torch.device('meta'):
            head = MODELS.build(cfg.model.decode_head)
        parameters = [*backbone.parameters(), *head.parameters()]
        count = sum(x.numel() for x in parameters)
        if path.stem in METADATA:
            assert METADATA[path.stem]['Parameters'] == count, path.stem
        if path.stem in PUBLISHED:
            millions, margin = PUBLISHED[path.stem]
            assert count / 1e6 == pytest.approx(millions, abs=margin)


def test_configs_show_only_the_difference():
    for path in (*EXPERIMENTS, *DETECTORS):
        text = path.read_text()
        assert text.count('\n') <= 40, path.stem
        assert "'/" not in text, f'{path.stem} has an absolute path'
        assert '::' not in text, f"{path.stem} inherits another package's"


def test_configs_import_mmfaseg_themselves():
    for path in (*EXPERIMENTS, *DETECTORS):
        cfg = load(path)
        assert 'mmfaseg' in cfg.custom_imports.imports, path.stem
        scope = 'mmdet' if path in DETECTORS else 'mmseg'
        assert cfg.default_scope == scope, path.stem


# short side, original size, resized, padded to a multiple of 32
ADE20K_SIZES = [
    (512, (300, 2500), (246, 2048), (256, 2048)),
    (512, (683, 512), (683, 512), (704, 512)),
    (512, (768, 1024), (512, 683), (512, 704)),
    (512, (256, 256), (512, 512), (512, 512)),
    (640, (300, 3000), (256, 2560), (256, 2560)),
    (640, (512, 683), (640, 854), (640, 864)),
]


def test_ade20k_is_tested_at_the_size_of_the_paper():
    """Short side 512 or 640, long side at most 4 times that."""
    for short in (512, 640):
        paths = [x for x in EXPERIMENTS if f'ade20k-{short}x' in x.stem]
        assert len(paths) >= 3
        settings = {}
        for path in paths:
            cfg = load(path)
            (resize,) = (
                x
                for x in cfg.test_dataloader.dataset.pipeline
                if x['type'] == 'Resize'
            )
            parts = resize, cfg.model.data_preprocessor
            settings[str(parts)] = parts
        for resize, preprocessor in settings.values():
            resize = TRANSFORMS.build(resize)
            preprocessor = MODELS.build(preprocessor)
            for _, size, resized, padded in (
                x for x in ADE20K_SIZES if x[0] == short
            ):
                image = resize(dict(img=np.zeros((*size, 3), np.uint8)))['img']
                assert image.shape[:2] == resized
                image = torch.from_numpy(image).permute(2, 0, 1)
                batch = preprocessor(
                    dict(inputs=[image], data_samples=[SegDataSample()])
                )
                assert tuple(batch['inputs'].shape[2:]) == padded


def test_swin_optimizer_excludes_norms_and_embeddings_from_weight_decay():
    path = ROOT / 'configs/faseg/faseg_swin-t_8xb2-160k_ade20k-512x512.py'
    cfg = load_without_weights(path)
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


def test_baselines_differ_from_faseg_in_the_head_only():
    for path in (ROOT / 'configs/mask2former').glob('*.py'):
        baseline = load(path)
        experiment = path.stem.removeprefix('mask2former_')
        ours = load(ROOT / f'configs/faseg/faseg_{experiment}.py')
        for key in (
            'optim_wrapper',
            'param_scheduler',
            'train_cfg',
            'train_dataloader',
        ):
            assert ours[key] == baseline[key], (experiment, key)
        assert ours.model.backbone == baseline.model.backbone
        ours, baseline = ours.model.decode_head, baseline.model.decode_head
        for key in (
            'in_channels',
            'num_classes',
            'feat_channels',
            'num_queries',
        ):
            assert ours[key] == baseline[key], (experiment, key)
        settings = baseline.get('loss', baseline.get('train_cfg'))
        assert ours.loss.num_points == settings.num_points, experiment
