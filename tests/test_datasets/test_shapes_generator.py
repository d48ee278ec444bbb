import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import mmfaseg
from mmfaseg.datasets.shapes_canvas import CLASSES, POLE, WIRE
from mmfaseg.datasets.shapes_generator import SPLITS, generate_shapes


def _checksum(*arguments) -> int:
    image, labels = generate_shapes(*arguments)
    return zlib.crc32(image.tobytes() + labels.tobytes())


def test_image_is_equal_in_another_process():
    code = (
        'import zlib\n'
        'from mmfaseg.datasets.shapes_generator import generate_shapes\n'
        "image, labels = generate_shapes(3, 'val', (96, 128), 7)\n"
        'print(zlib.crc32(image.tobytes() + labels.tobytes()))\n'
    )
    there = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(mmfaseg.__file__).parents[1],
    )
    here = _checksum(3, 'val', (96, 128), 7)
    assert int(there.stdout.split()[-1]) == here


def test_image_does_not_depend_on_previous_calls():
    first = _checksum(5)
    np.random.seed(1)
    generate_shapes(6)
    assert _checksum(5) == first


def test_seed_split_and_index_all_change_the_image():
    sums = {
        _checksum(index, split, (64, 64), seed)
        for index in range(20)
        for split in SPLITS
        for seed in range(3)
    }
    assert len(sums) == 20 * len(SPLITS) * 3


@pytest.mark.smoke
@pytest.mark.parametrize('size', [(32, 32), (128, 128), (97, 251), (300, 64)])
def test_image_sizes(size):
    for index in range(8):
        image, labels = generate_shapes(index, 'train', size)
        assert image.shape == (*size, 3)
        assert labels.shape == size
        assert image.dtype == labels.dtype == np.uint8
        assert labels.max() < len(CLASSES)


def test_every_image_contains_every_class():
    for size in [(128, 128), (256, 256)]:
        for index in range(100):
            _, labels = generate_shapes(index, 'val', size)
            assert len(np.unique(labels)) == len(CLASSES), (index, size)


def test_every_class_has_a_minimum_share():
    counts = np.zeros(len(CLASSES))
    for index in range(100):
        _, labels = generate_shapes(index)
        counts += np.bincount(labels.ravel(), minlength=len(CLASSES))
    shares = counts / counts.sum()
    assert shares[:3].min() > 0.15
    assert shares[3:].min() > 0.02


@pytest.mark.parametrize(
    ('label', 'axis'), [(POLE, 1), (WIRE, 0)], ids=['pole', 'wire']
)
def test_lines_are_one_to_three_pixels_thick(label, axis):
    lengths = np.zeros(8, int)
    for index in range(40):
        _, labels = generate_shapes(index, 'train', (256, 256))
        mask = np.moveaxis(labels == label, axis, 1).astype(np.int8)
        padded = np.pad(mask, ((0, 0), (1, 1)))
        edges = np.diff(padded, axis=1)
        runs = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
        lengths += np.bincount(np.minimum(runs, 7), minlength=8)
    shares = lengths / lengths.sum()
    # A slanting line is longer across; lines that meet count together.
    assert shares[1:5].sum() > 0.8
    assert shares[1:4].min() > 0.02


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((-1,), 'index'),
        ((0, 'train', (128, 128), -1), 'seed'),
        ((0, 'valid'), "'valid'"),
        ((0, 'train', (128, 16)), '16'),
        ((0, 'train', (128, 128, 3)), 'image_size'),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate_shapes(*arguments)
