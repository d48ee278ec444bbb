import re

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from mmfaseg.datasets import NoisyLabels, ShapesDataset
from mmfaseg.datasets.shapes_generator import generate_shapes
from mmfaseg.datasets.transforms.noisy_labels import smooth_field

CLASSES = 7


def _labels(index: int = 0) -> np.ndarray:
    labels = generate_shapes(index, 'train', (96, 128))[1]
    labels[10:20, 30:60] = 255
    return labels


def _noisy(labels: np.ndarray, path: str = 'x/1.png', **options) -> np.ndarray:
    transform = NoisyLabels(num_classes=CLASSES, **options)
    entry = dict(gt_seg_map=labels, img_path=path, ori_shape=labels.shape)
    return transform(entry)['gt_seg_map']


def _areas(labels: np.ndarray) -> list[np.ndarray]:
    """Returns the masks of all 8-connected areas of one class."""
    masks = []
    for label in range(CLASSES):
        count, areas = cv2.connectedComponents(
            (labels == label).astype(np.uint8), connectivity=8
        )
        masks += [areas == number for number in range(1, count)]
    return masks


KINDS = [dict(kind='swap', rate=0.4), dict(kind='boundary', shift=4)]


@pytest.mark.smoke
@pytest.mark.parametrize('options', KINDS)
def test_noise_is_deterministic_per_image(options):
    pipeline = [
        dict(type='mmfaseg.GenerateShapes'),
        dict(type='mmfaseg.NoisyLabels', num_classes=CLASSES, **options),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackSegInputs'),
    ]
    dataset = ShapesDataset(length=3, image_size=(64, 64), pipeline=pipeline)
    for index in range(3):
        versions = set()
        for _ in range(6):
            sample = dataset[index]['data_samples']
            labels = sample.gt_sem_seg.data.numpy()[0]
            if sample.flip:
                labels = labels[:, ::-1]
            versions.add(labels.tobytes())
        assert len(versions) == 1
        assert versions != {
            generate_shapes(index, 'train', (64, 64))[1].tobytes()
        }


@pytest.mark.parametrize('options', KINDS)
def test_noise_differs_between_images_and_seeds(options):
    labels = _labels()
    first = _noisy(labels, **options)
    assert first.dtype == labels.dtype
    np.testing.assert_array_equal(first, _noisy(labels, **options))
    moved = _noisy(labels, '/elsewhere/x/1.png', **options)
    np.testing.assert_array_equal(first, moved)
    assert (first != _noisy(labels, 'x/2.png', **options)).any()
    assert (first != _noisy(labels, seed=1, **options)).any()


@pytest.mark.parametrize(
    'options',
    [dict(kind='swap', rate=1), dict(kind='boundary', shift=9)],
)
@pytest.mark.parametrize('dtype', [np.uint8, np.int64])
def test_ignored_pixels_and_input_are_unchanged(options, dtype):
    labels = _labels().astype(dtype)
    before = labels.copy()
    noisy = _noisy(labels, **options)
    np.testing.assert_array_equal(noisy == 255, labels == 255)
    assert noisy.dtype == dtype
    np.testing.assert_array_equal(labels, before)


def test_zero_rate_changes_nothing():
    labels = _labels()
    noisy = _noisy(labels, kind='swap', rate=0)
    np.testing.assert_array_equal(noisy, labels)


def test_swapped_areas_get_one_other_class():
    labels = _labels()
    noisy = _noisy(labels, kind='swap', rate=1)
    for area in _areas(labels):
        (new,) = np.unique(noisy[area])
        assert new != labels[area][0]


def test_new_classes_may_need_more_bits_than_the_labels():
    transform = NoisyLabels(
        num_classes=1000, kind='swap', rate=1, ignore_index=65535
    )
    labels = np.zeros((64, 64), np.uint8)
    labels[::4, ::4] = 1  # 256 areas
    entry = dict(gt_seg_map=labels, img_path='1.png', ori_shape=(64, 64))
    assert transform(entry)['gt_seg_map'].max() > 255


def test_areas_are_8_connected():
    labels = np.kron(np.eye(8, dtype=np.uint8), np.ones((3, 3), np.uint8))
    noisy = _noisy(labels, kind='swap', rate=1)
    assert len(np.unique(noisy[labels == 1])) == 1


def test_areas_are_swapped_uniformly_at_the_rate():
    swapped, counts, total = 0, np.zeros((CLASSES, CLASSES)), 0
    # single pixels with gaps between them
    labels = np.full((64, 64), 255, np.uint8)
    labels[::2, ::2] = np.arange(32 * 32).reshape(32, 32) % CLASSES
    for number in range(20):
        noisy = _noisy(labels, f'x/{number}.png', kind='swap', rate=0.3)
        known = labels != 255
        total += known.sum()
        swapped += (noisy != labels).sum()
        np.add.at(counts, (labels[known], noisy[known]), 1)
    assert swapped / total == pytest.approx(0.3, abs=0.015)
    assert (np.diag(counts) > 0).all()
    others = counts[~np.eye(CLASSES, dtype=bool)]
    assert others.min() > 0.7 * others.mean()
    assert others.max() < 1.3 * others.mean()


def test_higher_rate_adds_errors():
    labels = _labels()
    few = _noisy(labels, kind='swap', rate=0.3)
    many = _noisy(labels, kind='swap', rate=0.6)
    wrong = few != labels
    assert 0 < wrong.sum() < (many != labels).sum()
    np.testing.assert_array_equal(many[wrong], few[wrong])


@pytest.mark.parametrize('shift', [1, 4, 10])
def test_labels_come_from_nearby(shift):
    labels = _labels()
    noisy = _noisy(labels, kind='boundary', shift=shift)
    assert (noisy != labels).any()
    size = 2 * (shift + 1) + 1  # rounding adds half a pixel per axis
    for label in range(CLASSES):
        mask = (labels == label).astype(np.uint8)
        near = cv2.dilate(mask, np.ones((size, size), np.uint8))
        assert (near[noisy == label] == 1).all()


@pytest.mark.parametrize('shift', [1, 3.5, 12])
def test_smooth_field_has_bounded_length_and_no_folds(shift):
    field = smooth_field(90, 131, shift, np.random.default_rng(0))
    assert field.shape == (2, 90, 131)
    length = np.hypot(*field)
    assert 0.6 * shift < length.max() <= shift + 1e-9
    assert abs(field.mean()) < shift / 3
    (a, b), (c, d) = (np.gradient(each) for each in field)
    assert np.abs([a, b, c, d]).max() <= 0.5 + 1e-9
    assert ((1 + a) * (1 + d) - b * c).min() > 0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(kind='coarse', rate=0.1), "'coarse'"),
        (dict(kind='swap'), 'rate'),
        (dict(kind='swap', rate=0.1, shift=2), 'requires rate'),
        (dict(kind='boundary', rate=0.1), 'requires shift'),
        (dict(kind='boundary', shift=2, rate=0.1), 'requires shift'),
        (dict(kind='swap', rate=1.5), '1.5'),
        (dict(kind='boundary', shift=0.5), '0.5'),
        (dict(kind='swap', rate=0.1, num_classes=1), 'num_classes.*1'),
    ],
)
def test_invalid_arguments_raise(options, message):
    config = dict(type='mmfaseg.NoisyLabels', num_classes=CLASSES)
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build({**config, **options})


@pytest.mark.parametrize('wrong', [7, 200, -1])
def test_labels_out_of_range_raise(wrong):
    labels = _labels().astype(np.int64)
    labels[3, 4] = wrong
    with pytest.raises(ValueError, match=rf'x/1\.png.*\[{wrong}\].*7'):
        _noisy(labels, kind='swap', rate=0.1)


def test_cropped_labels_raise():
    transform = NoisyLabels('swap', CLASSES, rate=0.1)
    labels = _labels()
    entry = dict(
        gt_seg_map=labels[:50], img_path='x/1.png', ori_shape=labels.shape
    )
    with pytest.raises(ValueError, match='directly after'):
        transform(entry)


def test_example_in_the_docs_is_valid(root, tmp_path):
    page = (root / 'docs/robustness.md').read_text()
    (example,) = re.findall(r'```python\n(.*?)```', page, re.S)
    path = tmp_path / 'noisy.py'
    path.write_text(example)
    pipeline = Config.fromfile(path).train_dataloader.dataset.pipeline
    base = 'configs/faseg/faseg_r50_8xb2-160k_ade20k-512x512.py'
    expected = Config.fromfile(root / base).train_pipeline
    assert isinstance(TRANSFORMS.build(pipeline.pop(2)), NoisyLabels)
    assert pipeline == expected
