"""Behavior that both metrics share."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from pytest import approx

from mmfaseg.evaluation import BoundaryIoU, ComponentIoU

METRICS = (BoundaryIoU, ComponentIoU)
ON_BOTH = pytest.mark.parametrize('make', METRICS)
CLASSES = ('ground', 'pole', 'wire')


@pytest.fixture
def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = [(2, 20 + i, 30) for i in range(4)]
    return [
        tuple(rng.choice(3, shape, p=(0.9, 0.06, 0.04))) for shape in shapes
    ]


@pytest.mark.smoke
def test_evaluator_builds_metrics_with_mmseg_metric(pairs):
    evaluator = Evaluator(
        [
            dict(type='IoUMetric', iou_metrics=['mIoU']),
            dict(type='mmfaseg.BoundaryIoU'),
            dict(type='mmfaseg.ComponentIoU', prefix='parts'),
        ]
    )
    evaluator.dataset_meta = dict(classes=CLASSES)
    for ground_truth, prediction in pairs[:2]:
        sample = SegDataSample(
            gt_sem_seg=PixelData(data=torch.as_tensor(ground_truth)[None]),
            pred_sem_seg=PixelData(data=torch.as_tensor(prediction)[None]),
        )
        evaluator.process([sample], dict())
    results = evaluator.evaluate(2)
    assert set(results) == {
        *('aAcc', 'mIoU', 'mAcc', 'mBoundaryIoU'),
        *(f'parts/mIoU_{x}' for x in ('small', 'medium', 'large', 'thin')),
    }
    assert 0 < results['mBoundaryIoU'] < 100
    assert 0 < results['parts/mIoU_small'] < 100


def test_metrics_build_from_config_without_import(run_python):
    build = 'METRICS.build(dict(type="mmfaseg.BoundaryIoU"))'
    run_python('-c', f'from mmengine.registry import METRICS; {build}')


def test_iou_of_one_bin_equals_mmseg(pairs, evaluate):
    """With all components small and thin, and all pixels at a boundary."""
    pairs[0][0][:4] = 255
    pairs[1][0][:, 3:] = 255
    expected = evaluate(IoUMetric(), pairs)['mIoU']
    everything = ComponentIoU(areas=(99**2, 100**2), thin_width=99)
    results = evaluate(everything, pairs)
    assert results['mIoU_small'] == approx(expected, abs=0.01)
    assert results['mIoU_thin'] == approx(expected, abs=0.01)
    results = evaluate(BoundaryIoU(dilation_ratio=1), pairs)
    assert results['mBoundaryIoU'] == approx(expected, abs=0.01)


@ON_BOTH
def test_merged_results_equal_one_run(make, pairs, make_sample):
    whole, first, second = (make(per_class=True) for _ in range(3))
    samples = [make_sample(*pair) for pair in pairs]
    for metric, part in (
        (whole, samples),
        (first, samples[:3]),
        (second, samples[3:]),
    ):
        metric.dataset_meta = dict(classes=CLASSES)
        metric.process({}, part)
    first.results += second.results
    assert len(first.results) == len(samples)
    merged = first.evaluate(len(samples))
    assert all(type(value) is float for value in merged.values())
    assert merged == approx(whole.evaluate(len(samples)), nan_ok=True)


@ON_BOTH
def test_correct_prediction_scores_100_with_ignored_pixels(
    make, pairs, evaluate
):
    correct = [(ground_truth, ground_truth) for ground_truth, _ in pairs]
    holes = [(np.where(x % 2, 255, x), x) for x, _ in correct]
    results = evaluate(make(per_class=True), correct + holes)
    values = [value for value in results.values() if not np.isnan(value)]
    assert values
    assert set(values) == {100.0}


@ON_BOTH
@pytest.mark.parametrize('ignore_index', [255, 1, -1])
def test_scores_without_valid_pixels_are_nan(make, ignore_index, evaluate):
    metric = make(per_class=True, ignore_index=ignore_index)
    everything = np.full((4, 5), ignore_index)
    pairs = [(everything, np.ones((4, 5), int))]
    for some in (pairs, []):
        results = evaluate(metric, some)
        assert results
        assert np.isnan(list(results.values())).all()


@ON_BOTH
def test_scores_do_not_depend_on_label_dtype(make, pairs, evaluate):
    expected = evaluate(make(), pairs)
    others = [
        (ground_truth.astype(np.uint8), prediction.astype(np.float32))
        for ground_truth, prediction in pairs
    ]
    assert evaluate(make(), others) == approx(expected, nan_ok=True)


@ON_BOTH
def test_more_than_255_classes(make, pairs, evaluate):
    classes = [str(i) for i in range(300)]
    high = [tuple(297 + labels for labels in pair) for pair in pairs]
    metric = make(ignore_index=-1)
    results = evaluate(metric, high, classes)
    assert results == approx(evaluate(make(), pairs), nan_ok=True)


@ON_BOTH
def test_table_of_the_classes_is_logged(make, pairs, evaluate, monkeypatch):
    lines = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'log', lambda _, line: lines.append(line))
    results = evaluate(make(per_class=True), pairs)
    (table,) = [line for line in lines if '| ' in line]
    rows = [
        [cell.strip() for cell in row.split('|')[1:-1]]
        for row in table.splitlines()
        if '|' in row
    ]
    assert [row[0] for row in rows] == ['Class', *CLASSES]
    for row in rows[1:]:
        for name, cell in zip(rows[0][1:], row[1:], strict=True):
            assert cell == f'{results[f"{name}.{row[0]}"]:.2f}'


@ON_BOTH
def test_per_class_adds_scores_of_classes(make, pairs, evaluate):
    short = evaluate(make(), pairs)
    full = evaluate(make(per_class=True), pairs)
    names = [name.removeprefix('m') for name in short]
    assert set(full) - set(short) == {
        f'{name}.{label}' for name in names for label in CLASSES
    }
    for name in names:
        values = [full[f'{name}.{label}'] for label in CLASSES]
        counted = [value for value in values if not np.isnan(value)]
        mean = np.mean(counted) if counted else np.nan
        assert full[f'm{name}'] == approx(mean, nan_ok=True)


@ON_BOTH
@pytest.mark.parametrize(
    ('ground_truth', 'prediction', 'message'),
    [
        ((4, 5), (4, 6), r'ground truth has shape \(4, 5\) .* \(4, 6\): '),
        (3, 0, 'ground truth has label 3, but there are 3 classes: set'),
        (-1, 0, 'ground truth has label -1, but there are 3'),
        (0, 7, 'prediction has label 7, but there are 3'),
    ],
)
def test_mismatched_ground_truth_and_prediction_raise(
    make, ground_truth, prediction, message, evaluate
):
    pair = [
        np.zeros(x, int) if isinstance(x, tuple) else np.full((4, 5), x)
        for x in (ground_truth, prediction)
    ]
    with pytest.raises(ValueError, match=message):
        evaluate(make(), [pair])


@ON_BOTH
def test_sample_without_ground_truth_raises(make, make_sample):
    metric = make()
    metric.dataset_meta = dict(classes=CLASSES)
    sample = make_sample(np.zeros((4, 5)), np.zeros((4, 5)))
    del sample['gt_sem_seg']
    with pytest.raises(
        ValueError, match=r"no gt_sem_seg, only \['pred_sem_seg'\]: add"
    ):
        metric.process({}, [sample])
