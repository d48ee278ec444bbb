"""Dataset, schedule and runtime base configs."""

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
# detection configs are tested in test_detector_configs.py
DATASET_FILES = sorted(
    path
    for path in (BASE / 'datasets').glob('*.py')
    if '-instance-' not in path.stem and '-panoptic-' not in path.stem
)
SCHEDULE_FILES = sorted((BASE / 'schedules').glob('*.py'))
OF_DETECTORS = ('schedule_det_study', 'schedule_dsb2018', 'schedule_coco_50e')
# learning rate of the backbone relative to the head, if it is not 0.1
BACKBONE_FACTORS = {
    'schedule_1k': 0.2,
    # from scratch
    'schedule_shapes': 1.0,
    'schedule_study': 1.0,
    'schedule_det_study': 1.0,
    'schedule_dsb2018': 1.0,
}


class _TinyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 1)
        self.norm = nn.LayerNorm(4)
        self.query_feat = nn.Embedding(2, 4)
        self.query_embed = nn.Embedding(2, 4)
        self.level_embed = nn.Embedding(2, 4)
        self.head = nn.Linear(4, 4)


def test_base_configs_can_be_combined(tmp_path):
    schedules = [x for x in SCHEDULE_FILES if x.stem not in OF_DETECTORS]
    experiment = tmp_path / 'experiment.py'
    pairs = [(x, schedules[0]) for x in DATASET_FILES]
    pairs += [(DATASET_FILES[0], x) for x in schedules]
    for dataset, schedule in pairs:
        parts = [BASE / 'default_runtime.py', dataset, schedule]
        experiment.write_text(f'_base_ = {[str(part) for part in parts]}\n')
        config = Config.fromfile(str(experiment))
        assert config.default_scope == 'mmseg'
        assert config.default_hooks.checkpoint.save_best == 'mIoU'
        assert config.train_cfg.max_iters % config.train_cfg.val_interval == 0
        assert config.tta_model.type == 'mmfaseg.MaskClassificationTTA'
        assert config.tta_pipeline[1].type == 'TestTimeAug'


@pytest.mark.parametrize('file', SCHEDULE_FILES, ids=lambda path: path.stem)
def test_schedule_ends_at_zero_without_decay_of_norms_and_embeddings(file):
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
    backbone = BACKBONE_FACTORS.get(file.stem, 0.1) * rate
    assert groups['backbone.weight']['lr'] == pytest.approx(backbone)
    assert groups['head.weight']['lr'] == rate
    assert groups['head.weight']['weight_decay'] == 0.05
    for name in ('norm', 'query_feat', 'query_embed', 'level_embed'):
        assert groups[f'{name}.weight']['weight_decay'] == 0
        assert groups[f'{name}.weight']['lr'] == rate
    *_, schedule = config.param_scheduler  # a warm-up may come before
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
    if file.stem != 'schedule_coco_50e':  # mmdet's decays twice, by 10
        assert schedule.get_last_value()[-1] < 1e-9


@pytest.mark.parametrize('size', [128, 256])
def test_shapes_configs_have_images_of_their_size(size):
    file = BASE / 'datasets' / f'shapes-{size}x{size}.py'
    config = Config.fromfile(str(file))
    assert config.crop_size == (size, size)
    splits = []
    for loader in ('train', 'val', 'test'):
        dataset = DATASETS.build(config[f'{loader}_dataloader'].dataset)
        assert dataset[0]['inputs'].shape == (3, size, size)
        splits.append(dataset.split)
    assert splits == ['train', 'val', 'test']


def _write_pair(
    folder: Path,
    image: str,
    labels: str,
    size: tuple[int, int] = (400, 500),
    num_labels: int = 11,
) -> None:
    for name in (image, labels):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3))
    cv2.imwrite(str(folder / image), pixels.astype(np.uint8))
    cv2.imwrite(
        str(folder / labels),
        np.resize(np.arange(num_labels, dtype=np.uint8), size),
    )


def _load(folder: Path, config: Config, loader: str):
    """Builds a dataset with its files in a folder."""
    dataset = config[f'{loader}_dataloader'].dataset
    dataset.data_root = str(folder)
    if 'ann_file' in dataset:
        file = folder / dataset.ann_file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('a\n')
    return DATASETS.build(dataset)


# published folders: a training and a test image
LAYOUTS = {
    'camvid-360x480': (
        ('train/a.png', 'trainannot/a.png'),
        ('test/a.png', 'testannot/a.png'),
    ),
    'camvid-192x256': (
        ('train/a.png', 'trainannot/a.png'),
        ('val/a.png', 'valannot/a.png'),
    ),
    'dsb2018-256x256': (
        ('images/train/a.png', 'annotations/train/a.png'),
        ('images/val/a.png', 'annotations/val/a.png'),
    ),
    'ade20k-512x512': (
        ('images/training/a.jpg', 'annotations/training/a.png'),
        ('images/validation/a.jpg', 'annotations/validation/a.png'),
    ),
    'cityscapes-512x1024': (
        (
            'leftImg8bit/train/x/a_leftImg8bit.png',
            'gtFine/train/x/a_gtFine_labelTrainIds.png',
        ),
        (
            'leftImg8bit/val/x/a_leftImg8bit.png',
            'gtFine/val/x/a_gtFine_labelTrainIds.png',
        ),
    ),
    'coco-stuff164k-512x512': (
        (
            'images/train2017/a.jpg',
            'annotations/train2017/a_labelTrainIds.png',
        ),
        ('images/val2017/a.jpg', 'annotations/val2017/a_labelTrainIds.png'),
    ),
    'pascal-context-59-480x480': (
        ('JPEGImages/a.jpg', 'SegmentationClassContext/a.png'),
        ('JPEGImages/a.jpg', 'SegmentationClassContext/a.png'),
    ),
    'mapillary-v1-65-1024x1024': (
        ('training/images/a.jpg', 'training/v1.2/labels/a.png'),
        ('validation/images/a.jpg', 'validation/v1.2/labels/a.png'),
    ),
}
LAYOUTS['ade20k-640x640'] = LAYOUTS['ade20k-512x512']
LAYOUTS['coco-stuff164k-640x640'] = LAYOUTS['coco-stuff164k-512x512']
# test sizes of a 400x500 image
TEST_SIZES = {
    'camvid-360x480': (400, 500),
    'camvid-192x256': (400, 500),
    'dsb2018-256x256': (400, 500),
    'ade20k-512x512': (512, 640),
    'ade20k-640x640': (640, 800),
    'cityscapes-512x1024': (400, 500),
    'coco-stuff164k-512x512': (512, 640),
    'coco-stuff164k-640x640': (640, 800),
    'pascal-context-59-480x480': (416, 520),
    'mapillary-v1-65-1024x1024': (1638, 2048),
}
# datasets that are tested at the original size
ORIGINAL_SIZES = {
    'camvid-360x480': (360, 480),
    'camvid-192x256': (360, 480),
    'cityscapes-512x1024': (1024, 2048),
}


def test_every_file_based_config_is_tested():
    stems = {file.stem for file in DATASET_FILES}
    assert set(LAYOUTS) == {x for x in stems if not x.startswith('shapes')}


@pytest.mark.parametrize('loader', ['train', 'test'])
@pytest.mark.parametrize('stem', LAYOUTS)
def test_file_based_configs_read_published_folders(tmp_path, stem, loader):
    _write_pair(tmp_path, *LAYOUTS[stem][loader == 'test'])
    config = Config.fromfile(str(BASE / 'datasets' / f'{stem}.py'))
    sample = _load(tmp_path, config, loader)[0]
    height, width = sample['inputs'].shape[1:]
    labels = sample['data_samples'].gt_sem_seg.data
    if loader == 'train':
        assert height <= config.crop_size[0]
        assert width <= config.crop_size[1]
        assert labels.shape[1:] == (height, width)
        return
    assert (height, width) == TEST_SIZES[stem]
    assert labels.shape[1:] == torch.Size((400, 500))
    # label 0 of ADE20K and Pascal Context is ignored
    is_reduced = stem.startswith(('ade', 'pascal'))
    expected = [*range(10), 255] if is_reduced else [*range(11)]
    assert labels.unique().tolist() == expected


def test_mapillary_ignores_unlabeled_pixels(tmp_path):
    stem = 'mapillary-v1-65-1024x1024'
    _write_pair(tmp_path, *LAYOUTS[stem][1], num_labels=66)
    config = Config.fromfile(str(BASE / 'datasets' / f'{stem}.py'))
    dataset = _load(tmp_path, config, 'test')
    labels = dataset[0]['data_samples'].gt_sem_seg.data
    assert labels.unique().tolist() == [*range(65), 255]
    for key in ('classes', 'palette'):
        all_values = type(dataset).METAINFO[key]
        assert list(dataset.metainfo[key]) == list(all_values[:65])
    assert type(dataset).METAINFO['classes'][65:] == ('Unlabeled',)


@pytest.mark.parametrize('stem', LAYOUTS)
def test_tta_scales_and_flips_the_test_image(tmp_path, stem):
    size = ORIGINAL_SIZES.get(stem, (400, 500))
    _write_pair(tmp_path, *LAYOUTS[stem][1], size=size)
    config = Config.fromfile(str(BASE / 'datasets' / f'{stem}.py'))
    plain = _load(tmp_path, config, 'test')[0]
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    augmented = _load(tmp_path, config, 'test')[0]
    inputs, samples = augmented['inputs'], augmented['data_samples']
    assert len(inputs) == 12
    assert torch.equal(inputs[4], plain['inputs'])
    assert [sample.flip for sample in samples] == [False, True] * 6
    height, width = plain['inputs'].shape[1:]
    for i, (image, sample) in enumerate(zip(inputs, samples, strict=True)):
        scale = (2 + i // 2) / 4  # 0.5 to 1.75
        assert image.shape[1] == pytest.approx(scale * height, abs=1)
        assert image.shape[2] == pytest.approx(scale * width, abs=1)
        if sample.flip:
            assert torch.equal(image, inputs[i - 1].flip(2))
        labels = sample.gt_sem_seg.data
        assert torch.equal(labels, plain['data_samples'].gt_sem_seg.data)


@pytest.mark.parametrize('short', [512, 640])
def test_tta_of_ade20k_limits_the_long_side_at_every_scale(short):
    stem = f'ade20k-{short}x{short}'
    config = Config.fromfile(str(BASE / 'datasets' / f'{stem}.py'))
    resizes = config.tta_pipeline[1].transforms[0]
    scales = [resize.scale for resize in resizes]
    assert scales == [
        (4 * x, x) for x in (short * n // 4 for n in range(2, 8))
    ]


def test_tta_of_shapes_uses_labels_without_flip():
    config = Config.fromfile(str(BASE / 'datasets' / 'shapes-128x128.py'))
    dataset = config.test_dataloader.dataset
    plain = DATASETS.build(dataset)[0]
    dataset.pipeline = config.tta_pipeline
    augmented = DATASETS.build(dataset)[0]
    (first, second), samples = augmented['inputs'], augmented['data_samples']
    assert torch.equal(first, plain['inputs'])
    assert torch.equal(second, first.flip(2))
    assert [sample.flip for sample in samples] == [False, True]
    labels = plain['data_samples'].gt_sem_seg.data
    assert torch.equal(samples[0].gt_sem_seg.data, labels)
