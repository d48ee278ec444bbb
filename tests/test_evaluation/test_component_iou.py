import numpy as np
import pytest
import reference_metrics
from pytest import approx

from mmfaseg.evaluation import ComponentIoU
from mmfaseg.evaluation.component_iou import BINS


def _map(*rows: str) -> np.ndarray:
    """Returns a label map: a dot is class 0, an x is ignored."""
    values = {'.': 0, 'x': 255, '1': 1, '2': 2}
    return np.array([[values[cell] for cell in row] for row in rows])


@pytest.mark.parametrize('areas', [(3, 9), (6, 60)])
@pytest.mark.parametrize('thin_width', [1, 2, 3])
def test_bins_equal_reference(image_pairs, areas, thin_width, evaluate):
    metric = ComponentIoU(areas=areas, thin_width=thin_width)
    total = 0
    for ground_truth, prediction in image_pairs:
        counts = reference_metrics.count_components(
            ground_truth, prediction, 3, areas, thin_width
        )
        total += counts
        ignored = ground_truth == 255
        maps = [np.where(ignored, 3, x) for x in (ground_truth, prediction)]
        found = metric.count(*np.array(maps, np.uint16), 3)
        np.testing.assert_array_equal(found, counts)
        assert found.dtype == np.int64
    results = evaluate(metric, image_pairs)
    assert results == {
        f'mIoU_{name}': approx(
            reference_metrics.mean_percent(total[:, i]), nan_ok=True
        )
        for i, name in enumerate(BINS)
    }


def test_default_areas_and_thin_width(evaluate):
    """Areas: small, medium (2x), large; widths: five and six pixels."""
    ground_truth = np.zeros((120, 600), int)
    left = 10
    for label, height, width in (
        *((1, 31, 33), (1, 32, 32), (1, 99, 93), (1, 96, 96)),
        *((2, 5, 60), (2, 6, 6)),
    ):
        ground_truth[10 : 10 + height, left : left + width] = label
        left += width + 10
    prediction = ground_truth.copy()
    prediction[10, 10] = prediction[10, 53] = prediction[10, 198] = 0
    prediction[10, left - 12] = 0
    metric = ComponentIoU(per_class=True)
    results = evaluate(metric, [(ground_truth, prediction)])
    assert results['IoU_small.pole'] == approx(100 * 1022 / 1023)
    assert results['IoU_medium.pole'] == approx(100 * 10230 / 10231)
    assert results['IoU_large.pole'] == approx(100 * 9215 / 9216)
    assert results['IoU_small.wire'] == approx(100 * 335 / 336)
    assert results['IoU_thin.wire'] == 100
    assert np.isnan(results['IoU_thin.pole'])


def test_width_is_side_of_largest_inner_square(
    evaluate,
):
    ground_truth = _map(
        '1111.',
        '.1111',
        '1111.',
        '....2',
        '222.2',
        '22222',
    )
    for thin_width, is_thin in ((1, (0, 0)), (2, (0, 1)), (3, (1, 1))):
        metric = ComponentIoU(thin_width=thin_width, per_class=True)
        results = evaluate(metric, [(ground_truth, ground_truth)])
        found = [results[f'IoU_thin.{name}'] for name in ('pole', 'wire')]
        assert [value == 100 for value in found] == list(map(bool, is_thin))


def test_ties_are_resolved_by_first_pixel_in_row_major_order(evaluate):
    """Not by the leftmost pixel."""
    ground_truth = _map(
        '..1111',
        '1.....',
    )
    prediction = _map(
        '..1...',
        '11....',
    )
    metric = ComponentIoU(areas=(2, 9), per_class=True)
    results = evaluate(metric, [(ground_truth, prediction)])
    assert results['IoU_small.pole'] == 100
    assert results['IoU_medium.pole'] == approx(100 * 1 / 5)
    flipped = evaluate(metric, [(ground_truth[::-1], prediction[::-1])])
    assert flipped['IoU_small.pole'] == approx(100 * 1 / 2)
    assert flipped['IoU_medium.pole'] == approx(100 * 1 / 4)


def test_false_positive_counts_in_component_with_largest_overlap(evaluate):
    ground_truth = _map(
        '1....1111',
        '.........',
    )
    prediction = _map(
        '111111111',
        '.........',
    )
    metric = ComponentIoU(areas=(2, 9), per_class=True)
    results = evaluate(metric, [(ground_truth, prediction)])
    assert results['IoU_small.pole'] == 100
    assert results['IoU_medium.pole'] == approx(100 * 4 / 8)


def test_false_positive_without_ground_truth_counts_by_its_own_size(evaluate):
    ground_truth = _map('1111....', '........')
    prediction = _map('1111..11', '........')
    metric = ComponentIoU(areas=(3, 9), thin_width=1, per_class=True)
    results = evaluate(metric, [(ground_truth, prediction)])
    assert results['IoU_medium.pole'] == 100
    assert results['IoU_small.pole'] == 0
    assert results['IoU_thin.pole'] == approx(100 * 4 / 6)


def test_ignored_pixels_split_components_of_both_maps(evaluate):
    ground_truth = _map('11x11', '..x..')
    prediction = _map('11111', '.....')
    metric = ComponentIoU(areas=(3, 9), per_class=True)
    results = evaluate(metric, [(ground_truth, prediction)])
    assert results['IoU_small.pole'] == 100
    assert np.isnan(results['IoU_medium.pole'])


def test_mean_is_over_classes_with_pixels_in_the_bin(evaluate):
    ground_truth = _map('1122', '1122')
    prediction = _map('1112', '1122')
    results = evaluate(
        ComponentIoU(areas=(9, 99)), [(ground_truth, prediction)]
    )
    assert results['mIoU_small'] == approx(100 * (4 / 5 + 3 / 4) / 2)
    assert np.isnan(results['mIoU_medium'])
    assert np.isnan(results['mIoU_large'])


@pytest.mark.parametrize('areas', [(9, 9), (9, 4), (0, 4), (1, 2, 3)])
def test_areas_out_of_range_raise(areas):
    with pytest.raises(ValueError, match=r'got \(.*; COCO uses'):
        ComponentIoU(areas=areas)


@pytest.mark.parametrize('thin_width', [0, -1, 2.5])
def test_thin_width_out_of_range_raises(thin_width):
    with pytest.raises(ValueError, match=rf'at least 1, got {thin_width}'):
        ComponentIoU(thin_width=thin_width)
