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
    dict(type='mmfaseg.LoadCamVidAnnotations'),
    dict(type='PackSegInputs'),
]
CLASSES = CamVidDataset.METAINFO['classes']
# Every label of the files, void (11) too.
LABELS = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 12
SHARED = dict(
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
    settings = dict(data_root=str(root), pipeline=PIPELINE)
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
    dataset = _build(_write_pairs(tmp_path, folders, '.jpg'), **SHARED)
    assert len(dataset) == 3
    np.testing.assert_array_equal(_labels(dataset), _void_ignored(LABELS))


def test_void_is_ignored_by_the_plain_loader_of_mmseg_too(tmp_path):
    pipeline = [PIPELINE[0], dict(type='LoadAnnotations'), PIPELINE[2]]
    dataset = _build(_write_pairs(tmp_path), pipeline=pipeline)
    np.testing.assert_array_equal(_labels(dataset), _void_ignored(LABELS))


def test_part_of_the_classes_in_another_order(tmp_path):
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


def test_metric_leaves_void_out(tmp_path):
    dataset = _build(_write_pairs(tmp_path))
    metric = IoUMetric()
    metric.dataset_meta = dataset.metainfo
    for sample in dataset:
        packed = sample['data_samples'].to_dict()
        guess = torch.from_numpy(np.where(LABELS == 11, 4, LABELS))
        packed['pred_sem_seg'] = dict(data=guess[None].long())
        metric.process({}, [packed])
    assert metric.evaluate(3)['mIoU'] == 100


def test_ann_file_chooses_the_images(tmp_path):
    root = _write_pairs(tmp_path)
    (root / 'names.txt').write_text('0003\n0002\n')
    dataset = _build(root, ann_file='names.txt')
    assert len(dataset) == 2
    (root / 'names.txt').write_text('0003\n0009\n')
    with pytest.raises(ValueError, match='0009'):
        _build(root, ann_file='names.txt')


def test_labels_are_compared_with_the_image_before_a_resize(tmp_path):
    pipeline = [
        PIPELINE[0],
        dict(type='Resize', scale=(16, 12)),
        *PIPELINE[1:],
    ]
    dataset = _build(_write_pairs(tmp_path), pipeline=pipeline)
    assert dataset[0]['inputs'].shape == (3, 12, 16)
    assert _labels(dataset).shape == (24, 32)


@pytest.mark.parametrize('missing', ['train', 'trainannot'])
def test_missing_and_empty_folders_raise(tmp_path, missing):
    root = _write_pairs(tmp_path)
    for file in (root / missing).iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=rf'{missing} holds no'):
        _build(root)
    (root / missing).rmdir()
    with pytest.raises(ValueError, match=rf'no folder .*{missing} '):
        _build(root)


def test_wrong_suffix_raises_with_existing_suffixes(tmp_path):
    root = _write_pairs(tmp_path, suffix='.jpg')
    with pytest.raises(ValueError, match=r"only \['.jpg'\]: set img_suffix"):
        _build(root)


@pytest.mark.parametrize('folder', ['train', 'trainannot'])
def test_unpaired_file_raises_with_its_name(tmp_path, folder):
    root = _write_pairs(tmp_path)
    (root / folder / '0002.png').unlink()
    with pytest.raises(ValueError, match=r"1 names .*\['0002'\]"):
        _build(root)


@pytest.mark.parametrize('label', [12, 254, 255])
def test_labels_out_of_range_raise(tmp_path, label):
    labels = LABELS.copy()
    labels[3, 4] = label
    dataset = _build(_write_pairs(tmp_path, labels=labels))
    with pytest.raises(ValueError, match=rf'0001.png holds .*\[{label}\]'):
        dataset[0]


def test_coloured_labels_raise(tmp_path):
    labels = np.zeros((24, 32, 3), np.uint8)
    dataset = _build(_write_pairs(tmp_path, labels=labels))
    with pytest.raises(ValueError, match='one channel'):
        dataset[0]


def test_label_size_mismatch_raises(tmp_path):
    dataset = _build(_write_pairs(tmp_path, labels=LABELS[:20]))
    with pytest.raises(ValueError, match=r'\(20, 32\).*\(24, 32\)'):
        dataset[0]


def test_prefix_without_images_raises(tmp_path):
    with pytest.raises(ValueError, match='img_path'):
        _build(tmp_path, data_prefix=dict(seg_map_path='trainannot'))


def test_prefix_without_labels_lists_the_images(tmp_path):
    dataset = _build(
        _write_pairs(tmp_path),
        data_prefix=dict(img_path='train'),
        pipeline=[PIPELINE[0], PIPELINE[2]],
        test_mode=True,
    )
    assert dataset[2]['inputs'].shape == (3, 24, 32)
