"""The dataset, schedule and runtime parts that experiments are made of."""

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, PARAM_SCHEDULERS
from torch import nn

BASE = Path(__file__).parents[2] / 'configs' / '_base_'
DATASET_FILES = sorted((BASE / 'datasets').glob('*.py'))
SCHEDULE_FILES = sorted((BASE / 'schedules').glob('*.py'))


class _TinyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 1)
        self.norm = nn.LayerNorm(4)
        self.query_feat = nn.Embedding(2, 4)
        self.query_embed = nn.Embedding(2, 4)
        self.level_embed = nn.Embedding(2, 4)
        self.head = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ('dataset', 'schedule'),
    list(product(DATASET_FILES, SCHEDULE_FILES)),
    ids=lambda path: path.stem,
)
def test_parts_fit_together(tmp_path, dataset, schedule):
    parts = [BASE / 'default_runtime.py', dataset, schedule]
    experiment = tmp_path / 'experiment.py'
    experiment.write_text(f'_base_ = {[str(part) for part in parts]}\n')
    config = Config.fromfile(str(experiment))
    assert config.default_scope == 'mmseg'
    assert config.default_hooks.checkpoint.save_best == 'mIoU'
    assert config.train_cfg.max_iters % config.train_cfg.val_interval == 0


@pytest.mark.parametrize('file', SCHEDULE_FILES, ids=lambda path: path.stem)
def test_schedule_ends_at_zero_and_spares_norms_and_embeddings(file):
    config = Config.fromfile(str(file))
    wrapper = build_optim_wrapper(_TinyModel(), config.optim_wrapper)
    groups = dict(
        zip(
            [name for name, _ in _TinyModel().named_parameters()],
            wrapper.optimizer.param_groups,
            strict=True,
        )
    )
    rate = config.optim_wrapper.optimizer.lr
    backbone = rate if file.stem == 'schedule_shapes' else 0.1 * rate
    assert groups['backbone.weight']['lr'] == pytest.approx(backbone)
    assert groups['head.weight']['lr'] == rate
    assert groups['head.weight']['weight_decay'] == 0.05
    for name in ('norm', 'query_feat', 'query_embed', 'level_embed'):
        assert groups[f'{name}.weight']['weight_decay'] == 0
        assert groups[f'{name}.weight']['lr'] == rate
    (schedule,) = config.param_scheduler
    assert schedule.end == config.train_cfg.max_iters
    schedule = PARAM_SCHEDULERS.build(
        dict(schedule, end=10), default_args=dict(optimizer=wrapper.optimizer)
    )
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_value()[-1])
        wrapper.optimizer.step()
        schedule.step()
    assert rates[0] == rate
    assert rates == sorted(rates, reverse=True)
    assert schedule.get_last_value()[-1] < 1e-9


@pytest.mark.parametrize('size', [128, 256])
def test_shapes_config_gives_pictures_of_its_size(size):
    file = BASE / 'datasets' / f'shapes-{size}x{size}.py'
    config = Config.fromfile(str(file))
    assert config.crop_size == (size, size)
    splits = []
    for loader in ('train', 'val', 'test'):
        dataset = DATASETS.build(config[f'{loader}_dataloader'].dataset)
        assert dataset[0]['inputs'].shape == (3, size, size)
        splits.append(dataset.split)
    assert splits == ['train', 'val', 'test']


def _write_pair(folder: Path, image: str, labels: str) -> None:
    for name in (image, labels):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(0).integers(0, 256, (400, 500, 3))
    cv2.imwrite(str(folder / image), picture.astype(np.uint8))
    cv2.imwrite(
        str(folder / labels),
        np.resize(np.arange(11, dtype=np.uint8), (400, 500)),
    )


@pytest.mark.parametrize(
    ('stem', 'image', 'labels', 'loader'),
    [
        ('camvid-360x480', 'train/a.png', 'trainannot/a.png', 'train'),
        ('camvid-360x480', 'test/a.png', 'testannot/a.png', 'test'),
        (
            'ade20k-512x512',
            'images/training/a.jpg',
            'annotations/training/a.png',
            'train',
        ),
        (
            'ade20k-512x512',
            'images/validation/a.jpg',
            'annotations/validation/a.png',
            'test',
        ),
        (
            'cityscapes-512x1024',
            'leftImg8bit/train/x/a_leftImg8bit.png',
            'gtFine/train/x/a_gtFine_labelTrainIds.png',
            'train',
        ),
        (
            'cityscapes-512x1024',
            'leftImg8bit/val/x/a_leftImg8bit.png',
            'gtFine/val/x/a_gtFine_labelTrainIds.png',
            'val',
        ),
    ],
)
def test_file_based_configs_read_their_public_layout(
    tmp_path, stem, image, labels, loader
):
    _write_pair(tmp_path, image, labels)
    config = Config.fromfile(str(BASE / 'datasets' / f'{stem}.py'))
    dataset = config[f'{loader}_dataloader'].dataset
    dataset.data_root = str(tmp_path)
    sample = DATASETS.build(dataset)[0]
    height, width = sample['inputs'].shape[1:]
    labels_size = sample['data_samples'].gt_sem_seg.data.shape[1:]
    if loader == 'train':
        assert height <= config.crop_size[0]
        assert width <= config.crop_size[1]
        assert labels_size == (height, width)
    else:
        assert labels_size == torch.Size((400, 500))
    if stem.startswith('ade') and loader == 'test':
        assert (height, width) == (512, 640)
        # ADE20K's label 0 is no class.
        assert sample['data_samples'].gt_sem_seg.data.unique().tolist() == [
            *range(10),
            255,
        ]
