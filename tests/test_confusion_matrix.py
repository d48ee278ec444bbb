"""tools/analysis_tools/confusion_matrix.py."""

import importlib
import json

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

CONFIG = """
test_dataloader = dict(
    dataset=dict(
        type='BaseSegDataset',
        metainfo=dict(classes=('sky', 'road', 'car')),
        data_root={root!r},
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix='.png',
        reduce_zero_label={reduce_zero_label},
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    )
)
"""


@pytest.fixture
def tool(root, monkeypatch):
    monkeypatch.syspath_prepend(root / 'tools/analysis_tools')
    return importlib.import_module('confusion_matrix')


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(path)


def write_dataset(folder, ground_truth, predictions, reduce_zero_label=False):
    """Writes images with these label maps and returns the arguments."""
    for name, labels in ground_truth.items():
        write(folder / f'labels/{name}', labels)
        write(folder / f'images/{name}', np.zeros((*np.shape(labels), 3)))
    for name, labels in predictions.items():
        write(folder / f'out/{name}', labels)
    config = folder / 'my.py'
    config.write_text(
        CONFIG.format(root=str(folder), reduce_zero_label=reduce_zero_label)
    )
    return [str(config), str(folder / 'out')]


def test_pixels_are_counted_by_pair_of_classes(tool, tmp_path, capsys):
    arguments = write_dataset(
        tmp_path,
        {'a/1.png': [[0, 0, 255], [1, 1, 1]], 'b/1.png': [[1, 2], [1, 2]]},
        {'a/1.png': [[0, 2, 0], [1, 1, 2]], 'b/1.png': [[1, 2], [0, 2]]},
    )
    figure, counts = tmp_path / 'new/matrix.png', tmp_path / 'counts.json'
    tool.main([*arguments, '--out', str(figure), '--json', str(counts)])
    assert json.loads(counts.read_text()) == dict(
        classes=['sky', 'road', 'car'],
        pixels=[[1, 0, 1], [1, 3, 1], [0, 0, 2]],
    )
    rows = [x.split('│') for x in capsys.readouterr().out.splitlines()]
    rows = [[y.strip() for y in row[1:-1]] for row in rows if len(row) == 5]
    assert rows == [
        ['sky', 'car', '50.00'],
        ['road', 'sky', '20.00'],
        ['road', 'car', '20.00'],
    ]
    assert Image.open(figure).width > 100


def test_saved_labels_are_those_of_the_annotation_files(tool, tmp_path):
    arguments = write_dataset(
        tmp_path,
        {'1.png': [[0, 1], [2, 3]]},
        {'1.png': [[1, 1], [2, 1]]},
        reduce_zero_label=True,
    )
    counts = tmp_path / 'counts.json'
    out = ('--out', str(tmp_path / 'x.png'), '--json', str(counts))
    tool.main([*arguments, *out])
    pixels = json.loads(counts.read_text())['pixels']
    assert pixels == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_ignored_label_of_a_wrapped_dataset(tool, tmp_path):
    config, out = write_dataset(
        tmp_path, {'1.png': [[0, 1], [0, 2]]}, {'1.png': [[1, 1], [0, 2]]}
    )
    dataset = Config.fromfile(config).test_dataloader.dataset.to_dict()
    dataset['ignore_index'] = 0
    wrapped = dict(type='RepeatDataset', times=1, dataset=dataset)
    init_default_scope('mmseg')
    counts = tool.count_pixels(DATASETS.build(wrapped), tmp_path / 'out')
    assert counts.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_figure_of_unknown_format_is_rejected(tool, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(['my.py', 'out', '--out', 'matrix.xyz'])
    assert 'matrix.xyz must end in one of .png' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('predictions', 'message'),
    [
        ({}, r'there is no prediction .*1\.png; run `mmfaseg test`'),
        ({'1.png': [[0]]}, 'the ground truth has shape'),
        ({'1.png': [[3, 0], [0, 0]]}, 'the prediction has label 3'),
    ],
)
def test_invalid_predictions_are_named(tool, tmp_path, predictions, message):
    arguments = write_dataset(
        tmp_path, {'1.png': [[0, 1], [1, 2]]}, predictions
    )
    with pytest.raises(SystemExit, match=message):
        tool.main(arguments)
