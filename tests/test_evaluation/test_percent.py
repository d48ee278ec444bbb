import math

import pytest

from mmfaseg.evaluation import MAIN_METRICS, in_percent, main_metric


def test_coco_fractions_are_converted_to_percent():
    found = in_percent(
        {'coco/segm_mAP': 0.25, 'coco_panoptic/PQ': 40.0, 'mIoU': 75.5}
    )
    assert found == {
        'coco/segm_mAP': 25.0,
        'coco_panoptic/PQ': 40.0,
        'mIoU': 75.5,
    }


def test_missing_objects_have_nan_precision():
    assert math.isnan(in_percent({'coco/segm_mAP_l': -1.0})['coco/segm_mAP_l'])


@pytest.mark.parametrize('name', MAIN_METRICS)
def test_main_metric_of_each_task(name):
    assert main_metric({'other': 1.0, name: 2.0}) == name


def test_main_metric_prefers_panoptic_quality():
    metrics = {'coco/segm_mAP': 0.2, 'coco_panoptic/PQ': 30.0}
    assert main_metric(metrics) == 'coco_panoptic/PQ'
    assert main_metric({'loss': 1.0}) is None
