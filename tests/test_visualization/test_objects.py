import numpy as np
import pytest

from mmfaseg.visualization import (
    Objects,
    draw_objects,
    save_figure,
)
from mmfaseg.visualization.objects import MAX_NAMES, match_objects

H, W = 40, 60
CLASSES = ('disc', 'cross')


def mask(left, right):
    out = np.zeros((H, W), bool)
    out[10:30, left:right] = True
    return out


def objects(*entries):
    """Each (label, left, right) or (label, left, right, score)."""
    masks = [mask(left, right) for _, left, right, *_ in entries]
    scores = [x[3] for x in entries if len(x) > 3]
    return Objects(
        np.array([x[0] for x in entries], int),
        np.stack(masks) if masks else np.zeros((0, H, W), bool),
        np.array(scores, float) if scores or not entries else None,
    )


GROUND_TRUTH = objects((0, 0, 20), (0, 20, 40), (1, 40, 60))


def image(ground_truth, prediction):
    return np.full((H, W, 3), 90, np.uint8), ground_truth, prediction


def texts(figure):
    panels = [x.get_text() for axes in figure.axes for x in axes.texts]
    return [axes.get_title() for axes in figure.axes], panels


def test_each_object_is_matched_to_the_first_prediction():
    prediction = objects(
        (0, 0, 20, 0.9), (0, 1, 20, 0.8), (0, 21, 40, 0.7), (0, 40, 60, 0.6)
    )
    assert match_objects(GROUND_TRUTH, prediction).tolist() == [0, -1, 1, -1]


def test_match_requires_minimum_iou():
    ground_truth = objects((0, 0, 20))
    half, less = objects((0, 0, 10, 0.9)), objects((0, 0, 9, 0.9))
    assert match_objects(ground_truth, half).tolist() == [0]
    assert match_objects(ground_truth, less).tolist() == [-1]
    assert match_objects(ground_truth, less, min_iou=0.4).tolist() == [0]


def test_no_objects_match_nothing():
    assert match_objects(GROUND_TRUTH, objects()).shape == (0,)
    found = match_objects(objects(), objects((0, 0, 20, 0.9)))
    assert found.tolist() == [-1]


def test_scores_select_and_sort():
    prediction = objects((0, 0, 9, 0.2), (1, 9, 20, 0.5), (0, 20, 30, 0.9))
    shown = prediction.above(0.5)
    assert shown.scores.tolist() == [0.9, 0.5]
    assert shown.labels.tolist() == [0, 1]
    assert np.array_equal(shown.masks[0], mask(20, 30))


def test_names_scores_and_counts_are_written():
    prediction = objects((0, 0, 20, 0.91), (1, 0, 20, 0.7), (0, 0, 9, 0.1))
    figure = draw_objects([image(GROUND_TRUTH, prediction)], CLASSES)
    captions, names = texts(figure)
    assert 'prediction: 1 of 3 found, 1 false' in captions
    assert sorted(names) == sorted(
        ['disc', 'disc', 'cross', 'disc 0.91', 'cross 0.70']
    )


def test_names_are_omitted_for_many_objects():
    many = objects(*[(0, n, n + 2) for n in range(MAX_NAMES + 1)])
    figure = draw_objects([image(many, objects())], CLASSES)
    assert texts(figure)[1] == []


def test_matched_objects_have_equal_colors():
    prediction = objects((1, 40, 60, 0.9), (0, 0, 20, 0.8), (1, 20, 40, 0.7))
    figure = draw_objects([image(GROUND_TRUTH, prediction)], CLASSES)
    ground_truth, found = (x.images[1].get_array() for x in figure.axes[1:])
    assert np.array_equal(ground_truth[20, 50], found[20, 50])
    assert np.array_equal(ground_truth[20, 10], found[20, 10])
    assert not np.array_equal(ground_truth[20, 30], found[20, 30])
    assert ground_truth[0, 0, 3] == 0  # transparent outside of the objects
    colors = {tuple(ground_truth[20, x, :3]) for x in (10, 30, 50)}
    assert len(colors) == 3


def test_empty_images_are_drawn_and_saved(tmp_path):
    empty = image(objects(), objects())
    hidden = image(objects((0, 0, 0)), objects((0, 0, 0, 0.9)))
    figure = draw_objects([empty, hidden], CLASSES)
    assert 'prediction: 0 of 0 found, 0 false' in texts(figure)[0]
    assert save_figure(figure, tmp_path / 'objects.png').stat().st_size > 1000


def test_no_images_raise():
    with pytest.raises(ValueError, match='no image to draw'):
        draw_objects([], CLASSES)
