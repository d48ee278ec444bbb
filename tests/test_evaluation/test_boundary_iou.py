import numpy as np
import pytest
import reference_metrics
from pytest import approx

from mmfaseg.evaluation import BoundaryIoU


def test_boundary_iou_equals_reference(image_pairs, evaluate):
    height, width = image_pairs[0][0].shape
    diagonal = np.hypot(height, width)
    for distance in (1, 2, 4):
        # the distance is at least one pixel
        ratio = 1e-6 if distance == 1 else min(distance / diagonal, 1)
        real_distance = max(1, round(ratio * diagonal))
        metric = BoundaryIoU(dilation_ratio=ratio)
        total = 0
        for ground_truth, prediction in image_pairs:
            counts = reference_metrics.count_boundaries(
                ground_truth, prediction, 3, real_distance
            )
            results = evaluate(metric, [(ground_truth, prediction)])
            expected = reference_metrics.mean_percent(counts)
            assert results == {'mBoundaryIoU': approx(expected, nan_ok=True)}
            total += counts
        results = evaluate(metric, image_pairs)
        expected = reference_metrics.mean_percent(total)
        assert results == {'mBoundaryIoU': approx(expected)}


@pytest.mark.parametrize(
    ('size', 'distance'), [((30, 40), 1), ((60, 80), 2), ((75, 100), 2)]
)
def test_distance_is_two_percent_of_the_diagonal(size, distance, evaluate):
    """2.5 is rounded to 2, as in the reference implementation."""
    ground_truth = np.ones(size, int)
    prediction = ground_truth.copy()
    prediction[distance:-distance, distance:-distance] = 0
    results = evaluate(
        BoundaryIoU(per_class=True), [(ground_truth, prediction)]
    )
    assert results['BoundaryIoU.pole'] == 100


def test_border_of_the_image_is_a_boundary(evaluate):
    ground_truth = np.ones((9, 9), int)
    prediction = ground_truth.copy()
    prediction[0] = 0
    results = evaluate(
        BoundaryIoU(per_class=True), [(ground_truth, prediction)]
    )
    # 32 pixels of one ring, 30 of the other, 23 of both
    assert results['BoundaryIoU.pole'] == approx(100 * 23 / 39)


@pytest.mark.parametrize('ratio', [0, -0.02, 1.5, 2, float('nan')])
def test_ratio_out_of_range_raises(ratio):
    with pytest.raises(ValueError, match=rf'got {ratio}; .* 0.02'):
        BoundaryIoU(dilation_ratio=ratio)
