from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS
from mmseg.evaluation import IoUMetric

from mmfaseg.datasets import CamVidDataset

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
CLASSES = CamVidDataset.METAINFO['classes']
# all labels in the files, with 11 for unlabeled pixels
LABELS = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 12
IGNORED = np.where(LABELS == 11, 255, LABELS)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('camvid')
    for folder in ('train', 'trainannot'):
        (root / folder).mkdir()
    image = np.full((24, 32, 3), 90, np.uint8)
    for name in ('0001', '0002', '0003'):
        cv2.imwrite(str(root / f'train/{name}.png'), image)
        cv2.imwrite(str(root / f'trainannot/{name}.png'), LABELS)
    return root


def _build(data: Path, **options) -> CamVidDataset:
    prefix = dict(img_path='train', seg_map_path='trainannot')
    settings = dict(data_prefix=prefix, pipeline=PIPELINE, **options)
    return DATASETS.build(
        dict(type='mmfaseg.CamVidDataset', data_root=str(data), **settings)
    )


def _labels(dataset: CamVidDataset) -> np.ndarray:
    return dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()


@pytest.mark.smoke
def test_unlabeled_pixels_are_ignored(data):
    dataset = _build(data)
    assert len(dataset) == 3
    sample = dataset[0]
    assert sample['inputs'].shape == (3, 24, 32)
    assert sample['data_samples'].img_path.endswith('0001.png')
    np.testing.assert_array_equal(_labels(dataset), IGNORED)


def test_classes_can_be_selected_and_reordered(data):
    dataset = _build(data, metainfo=dict(classes=['Car', 'Road']))
    expected = np.full(LABELS.shape, 255)
    expected[np.equal(LABELS, CLASSES.index('Car'))] = 0
    expected[np.equal(LABELS, CLASSES.index('Road'))] = 1
    np.testing.assert_array_equal(_labels(dataset), expected)
    assert dataset.metainfo['palette'] == [[64, 0, 128], [128, 64, 128]]
    dataset = _build(data, metainfo=dict(classes=CLASSES[::-1]))
    expected = np.where(LABELS == 11, 255, 10 - LABELS.astype(int))
    np.testing.assert_array_equal(_labels(dataset), expected)


def test_metric_ignores_unlabeled_pixels(data):
    dataset = _build(data)
    metric = IoUMetric()
    metric.dataset_meta = dataset.metainfo
    for sample in dataset:
        packed = sample['data_samples'].to_dict()
        guess = torch.from_numpy(np.where(LABELS == 11, 4, LABELS))
        packed['pred_sem_seg'] = dict(data=guess[None].long())
        metric.process({}, [packed])
    assert metric.evaluate(3)['mIoU'] == 100


def test_config_arguments_of_mmseg(data, tmp_path):
    (data / 'names.txt').write_text('0003\n0002\n')
    assert len(_build(data, ann_file='names.txt')) == 2
    with pytest.raises(ValueError, match='Bus'):
        _build(data, metainfo=dict(classes=['Bus']))
