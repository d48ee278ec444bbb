"""The part of panopticapi for mmdet, and mmdet's metric with it."""

import importlib
import pickle
import sys

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoPanopticMetric
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmfaseg.compat.panopticapi import (
    MODULES,
    PQStat,
    id2rgb,
    register_panopticapi,
    rgb2id,
)
from mmfaseg.datasets.shapes_canvas import CLASSES
from mmfaseg.datasets.shapes_coco import CATEGORIES, write_shapes_coco
from mmfaseg.datasets.shapes_generator import generate_shapes_with_areas

pytestmark = pytest.mark.smoke
SIZE, LENGTH = (64, 96), 4


def test_color_and_id_conversions_are_inverse():
    ids = np.array([[0, 1, 255], [256, 65536, 256**3 - 1]])
    colors = id2rgb(ids)
    assert colors.dtype == np.uint8
    assert colors[1].tolist() == [[0, 1, 0], [0, 0, 1], [255, 255, 255]]
    for dtype, expected in (
        (np.uint8, np.int32),
        (np.uint32, np.uint32),
        (np.int64, np.int64),
    ):
        result = rgb2id(colors.astype(dtype))
        assert result.dtype == expected
        assert np.array_equal(result, ids)
    assert id2rgb(70000) == [112, 17, 1]
    assert rgb2id([112, 17, 1]) == rgb2id(np.uint8([112, 17, 1])) == 70000


def make_counts():
    """Two things; the stuff class does not occur."""
    counts = PQStat()
    counts[1].tp, counts[1].iou, counts[1].fp = 3, 2.4, 2
    counts[2].fn = 1
    return counts


def test_averages_of_manual_example():
    categories = {
        1: dict(isthing=1),
        2: dict(isthing=1),
        3: dict(isthing=0),
    }
    mean, classwise = make_counts().pq_average(categories, None)
    assert classwise[1] == pytest.approx(dict(pq=0.6, sq=0.8, rq=0.75))
    assert classwise[2] == classwise[3] == dict(pq=0, sq=0, rq=0)
    assert mean == pytest.approx(dict(pq=0.3, sq=0.4, rq=0.375, n=2))
    things, _ = make_counts().pq_average(categories, True)
    assert things == mean
    stuff, classwise = make_counts().pq_average(categories, False)
    assert stuff == dict(pq=0, sq=0, rq=0, n=0)
    assert list(classwise) == [3]


def test_counts_add_and_pickle():
    counts = make_counts()
    counts += pickle.loads(pickle.dumps(make_counts()))
    assert (counts[1].tp, counts[1].fp, counts[2].fn) == (6, 4, 2)
    assert counts[1].iou == pytest.approx(4.8)


@pytest.fixture
def no_panopticapi(monkeypatch):
    """Removes the modules, as before ``import mmfaseg``."""
    for name in [x for x in sys.modules if x.startswith('panopticapi')]:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def test_installed_panopticapi_takes_precedence(
    tmp_path, monkeypatch, no_panopticapi
):
    package = tmp_path / 'panopticapi'
    package.mkdir()
    (package / '__init__.py').write_text('INSTALLED = True')
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    register_panopticapi()
    assert importlib.import_module('panopticapi').INSTALLED


def test_loaded_mmdet_modules_are_patched(monkeypatch, no_panopticapi):
    """mmdet sets the names to None if it is imported first."""
    modules = {
        'mmdet.evaluation.functional.panoptic_utils': ('PQStat', 'rgb2id'),
        'mmdet.evaluation.metrics.coco_panoptic_metric': (
            *('PQStat', 'VOID', 'rgb2id', 'id2rgb'),
            'panopticapi',
        ),
    }
    for module, names in modules.items():
        for name in names:
            monkeypatch.setattr(f'{module}.{name}', None)
    register_panopticapi()
    for module, names in modules.items():
        for name in names:
            assert getattr(sys.modules[module], name) is not None
    assert sys.modules[module].rgb2id is rgb2id
    CocoPanopticMetric()


def test_missing_names_raise_with_the_package():
    for statement in (
        'from panopticapi.utils import IdGenerator',
        'from panopticapi import visualization',
        'import panopticapi; panopticapi.evaluation.pq_compute',
    ):
        with pytest.raises(ImportError, match=r'pip install git\+https'):
            exec(statement)
    assert importlib.util.find_spec('panopticapi.evaluation') is not None


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes')
    write_shapes_coco(folder, 'val', LENGTH, SIZE)
    return folder


def evaluate(shapes, change):
    """Evaluates the ground truth after ``change(labels, areas)``."""
    metric = CocoPanopticMetric(
        ann_file=str(shapes / 'annotations/panoptic_val.json'),
        seg_prefix=str(shapes / 'panoptic_val/'),
    )
    names = [x['name'] for x in CATEGORIES]
    metric.dataset_meta = dict(classes=names)
    by_name = np.array([names.index(x) for x in CLASSES])
    for index in range(LENGTH):
        _, labels, areas = generate_shapes_with_areas(index, 'val', SIZE)
        labels, areas = change(by_name[labels], areas.astype(np.int64))
        panoptic = torch.from_numpy(labels + areas * INSTANCE_OFFSET)
        sample = DetDataSample(
            metainfo=dict(
                img_id=index, img_path=f'{index:06d}.png', ori_shape=SIZE
            ),
            pred_panoptic_seg=PixelData(sem_seg=panoptic[None]),
        )
        metric.process({}, [sample.to_dict()])
    return metric.evaluate(LENGTH)


def test_pq_of_the_ground_truth_is_one(shapes):
    results = evaluate(shapes, lambda labels, areas: (labels, areas))
    for name in ('PQ', 'SQ', 'RQ', 'PQ_th', 'PQ_st'):
        assert results[f'coco_panoptic/{name}'] == pytest.approx(100)


def test_merged_objects_reduce_pq_of_things_only(shapes):
    """The semantic segmentation remains correct."""
    results = evaluate(
        shapes, lambda labels, areas: (labels, (areas > 0).astype(np.int64))
    )
    assert results['coco_panoptic/PQ_st'] == pytest.approx(100)
    assert results['coco_panoptic/PQ_th'] < 80


def test_pq_of_wrong_classes_is_zero(shapes):
    def rename(labels, areas):
        names = np.array([1, 2, 3, 0, 5, 6, 4])
        return names[labels], areas

    assert evaluate(shapes, rename)['coco_panoptic/PQ'] == 0
