"""Positions at which tools/analysis_tools/robustness.py corrupts images."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mmengine.registry import DATASETS, DefaultScope

from mmfaseg.datasets import ShapesDataset

TOOLS = Path(__file__).resolve().parent.parent / 'tools' / 'analysis_tools'


@pytest.fixture(autouse=True)
def mmseg_scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def find_insertion_points(monkeypatch) -> Callable:
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module('robustness_tester').find_insertion_points


SHAPES = dict(type='mmfaseg.GenerateShapes')
FLIP = dict(type='RandomFlip', prob=0.0)
PACK = dict(type='PackSegInputs')


def _dataset(pipeline: list) -> ShapesDataset:
    return DATASETS.build(
        dict(
            type='mmfaseg.ShapesDataset',
            length=2,
            image_size=(32, 32),
            pipeline=pipeline,
        )
    )


def test_insertion_point_follows_image_in_nested_pipelines(
    find_insertion_points,
):
    nested = dict(type='RandomApply', transforms=[SHAPES, FLIP], prob=1.0)
    augmented = dict(type='TestTimeAug', transforms=[[FLIP], [PACK]])
    for pipeline, names in [
        ([SHAPES, FLIP, PACK], ['GenerateShapes', 'RandomFlip']),
        ([SHAPES, augmented], ['GenerateShapes', 'TestTimeAug']),
        ([nested, PACK], ['GenerateShapes', 'RandomFlip']),
    ]:
        ((steps, number),) = find_insertion_points(_dataset(pipeline))
        around = steps[number - 1 : number + 1]
        assert [type(step).__name__ for step in around] == names


def test_each_concatenated_dataset_has_an_insertion_point(
    find_insertion_points,
):
    part = dict(
        type='mmfaseg.ShapesDataset',
        length=2,
        image_size=(32, 32),
        pipeline=[SHAPES, PACK],
    )
    concatenated = dict(type='ConcatDataset', datasets=[part, part])
    insertion_points = find_insertion_points(
        DATASETS.build(
            dict(type='RepeatDataset', dataset=concatenated, times=2)
        )
    )
    assert [number for _, number in insertion_points] == [1, 1]
    assert insertion_points[0][0] is not insertion_points[1][0]


@pytest.mark.parametrize(
    'pipeline',
    [
        [],
        [dict(type='RandomChoice', transforms=[[SHAPES], [SHAPES]])],
        [dict(type='TestTimeAug', transforms=[[SHAPES], [PACK]])],
    ],
)
def test_missing_loading_step_raises(find_insertion_points, pipeline):
    with pytest.raises(ValueError, match=r"results\['img'\]"):
        find_insertion_points(_dataset(pipeline))
