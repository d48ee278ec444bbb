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
# all labels, 11 is void
LABELS = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 12
PREFIX = dict(data_prefix=dict(img_path='train', seg_map_path='trainannot'))
OTHER_LAYOUT = dict(
    data_prefix=dict(
        img_path='images/train', seg_map_path='annotations/train'
    ),
    img_suffix='.jpg',
)


def _write_pairs(
    root: Path,
    folders: tuple[str, str] = ('train', 'trainannot'),
    suffix: str = '.png',
    labels: np.ndarray = LABELS,
) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
    image = np.full((24, 32, 3), 90, np.uint8)
    for name in ('0001', '0002', '0003'):
        cv2.imwrite(str(root / folders[0] / (name + suffix)), image)
        cv2.imwrite(str(root / folders[1] / f'{name}.png'), labels)
    return root


def _build(root: Path, **options) -> CamVidDataset:
    settings = dict(data_root=str(root), pipeline=PIPELINE, **PREFIX)
    settings.update(options)
    return DATASETS.build(dict(type='mmfaseg.CamVidDataset', **settings))


def _labels(dataset: CamVidDataset) -> np.ndarray:
    return dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()


def _void_ignored(labels: np.ndarray) -> np.ndarray:
    return np.where(labels == 11, 255, labels)


@pytest.mark.smoke
def test_public_layout_with_void_ignored(tmp_path):
    dataset = _build(_write_pairs(tmp_path))
    assert len(dataset) == 3
    sample = dataset[0]
    assert sample['inputs'].shape == (3, 24, 32)
    assert sample['data_samples'].img_path.endswith('0001.png')
    np.testing.assert_array_equal(_labels(dataset), _void_ignored(LABELS))


def test_other_folders_and_suffixes(tmp_path):
    folders = ('images/train', 'annotations/train')
    dataset = _build(_write_pairs(tmp_path, folders, '.jpg'), **OTHER_LAYOUT)
    assert len(dataset) == 3
    np.testing.assert_array_equal(_labels(dataset), _void_ignored(LABELS))


def test_selected_classes_in_another_order(tmp_path):
    dataset = _build(
        _write_pairs(tmp_path), metainfo=dict(classes=['Car', 'Road'])
    )
    old_labels = dict(Car=8, Road=3)
    expected = np.full(LABELS.shape, 255)
    expected[np.equal(LABELS, old_labels['Car'])] = 0
    expected[np.equal(LABELS, old_labels['Road'])] = 1
    np.testing.assert_array_equal(_labels(dataset), expected)
    assert dataset.metainfo['palette'] == [[64, 0, 128], [128, 64, 128]]


def test_all_classes_in_another_order_keep_void_ignored(tmp_path):
    dataset = _build(
        _write_pairs(tmp_path), metainfo=dict(classes=CLASSES[::-1])
    )
    expected = _void_ignored(np.where(LABELS == 11, 11, 10 - LABELS))
    np.testing.assert_array_equal(_labels(dataset), expected)


def test_metric_ignores_void(tmp_path):
    dataset = _build(_write_pairs(tmp_path))
    metric = IoUMetric()
    metric.dataset_meta = dataset.metainfo
    for sample in dataset:
        packed = sample['data_samples'].to_dict()
        guess = torch.from_numpy(np.where(LABELS == 11, 4, LABELS))
        packed['pred_sem_seg'] = dict(data=guess[None].long())
        metric.process({}, [packed])
    assert metric.evaluate(3)['mIoU'] == 100


def test_ann_file_selects_the_images(tmp_path):
    root = _write_pairs(tmp_path)
    (root / 'names.txt').write_text('0003\n0002\n')
    dataset = _build(root, ann_file='names.txt')
    assert len(dataset) == 2


def test_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match='train'):
        _build(tmp_path, data_prefix=dict(img_path='train'))


def test_prefix_without_labels_lists_the_images(tmp_path):
    dataset = _build(
        _write_pairs(tmp_path),
        data_prefix=dict(img_path='train'),
        pipeline=[PIPELINE[0], PIPELINE[2]],
        test_mode=True,
    )
    assert dataset[2]['inputs'].shape == (3, 24, 32)
