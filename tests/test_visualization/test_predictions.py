import matplotlib
import matplotlib._pylab_helpers
import numpy as np
import pytest
from PIL import Image

from mmfaseg.visualization import (
    draw_predictions,
    save_figure,
    segmentation_scores,
)
from mmfaseg.visualization.predictions import color_labels

pytestmark = pytest.mark.smoke
CLASSES = ('road', 'sky', 'tree')
PALETTE = [[250, 0, 0], [0, 250, 0], [0, 0, 250]]


def make_image(size=(20, 30), ground_truth=0, prediction=0):
    return (
        np.full((*size, 3), 200, np.uint8),
        np.full(size, ground_truth),
        np.full(size, prediction),
    )


def pixels(figure):
    """The pixels of the figure, uint8, (H, W, 3)."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def count(figure, color):
    return int((pixels(figure) == color).all(-1).sum())


def texts(figure):
    found = [x.get_text() for axes in figure.axes for x in axes.texts]
    for legend in figure.legends:
        found += [text.get_text() for text in legend.get_texts()]
    return found


def test_scores_of_a_known_label_map():
    ground_truth = np.array([[0, 0, 1, 1], [0, 0, 255, 255]])
    prediction = np.array([[0, 0, 0, 1], [0, 0, 2, 0]])
    miou, accuracy = segmentation_scores(ground_truth, prediction, 4)
    # class 0: 4 of 5, class 1: 1 of 2; class 2 is on ignored pixels only
    assert miou == pytest.approx(100 * (4 / 5 + 1 / 2) / 2)
    assert accuracy == pytest.approx(100 * 5 / 6)


def test_scores_without_ground_truth_are_nan():
    ground_truth = np.full((4, 4), 255)
    assert np.isnan(
        segmentation_scores(ground_truth, ground_truth * 0, 3)
    ).all()


def test_ground_truth_and_prediction_have_the_colors_of_their_classes():
    figure = draw_predictions(
        [make_image((64, 64), ground_truth=1, prediction=2)], CLASSES, PALETTE
    )
    area = count(figure, PALETTE[1])  # one panel of three, and the legend
    assert 0.2 < area / pixels(figure)[..., 0].size < 0.34
    assert count(figure, PALETTE[2]) == pytest.approx(area, rel=0.02)
    assert count(figure, PALETTE[0]) == 0


def test_legend_lists_only_classes_that_occur():
    images = [make_image(ground_truth=2), make_image(ground_truth=255)]
    names = texts(draw_predictions(images, CLASSES, PALETTE))
    assert {'road', 'tree', 'ignored'} <= set(names)
    assert 'sky' not in names


def test_caption_shows_scores():
    figure = draw_predictions([make_image()], CLASSES, PALETTE)
    assert 'mIoU 100.0 · accuracy 100.0' in texts(figure)


def test_ignored_pixels_are_black_with_stripes():
    label = np.zeros((48, 48), int)
    label[:, 24:] = 255
    painted = color_labels(label, np.array(PALETTE, np.uint8), 255)
    assert (painted[:, :24] == PALETTE[0]).all()
    shades = set(painted[:, 24:].ravel().tolist())
    assert shades == {0, 120}


def test_ignore_index_can_be_changed():
    images = [make_image(ground_truth=11)]
    draw_predictions(images, CLASSES, PALETTE, ignore_index=11)
    with pytest.raises(ValueError, match='label 11 is invalid'):
        draw_predictions(images, CLASSES, PALETTE)


@pytest.mark.parametrize('number', [1, 3, 4, 5])
def test_every_image_gets_three_panels(number):
    sizes = [(20, 30), (33, 17), (500, 700), (8, 8), (1, 1)]
    images = [make_image(size) for size in sizes[:number]]
    figure = draw_predictions(images, CLASSES, PALETTE)
    assert len(figure.axes) == 3 * number
    for axes in figure.axes:
        box = axes.get_position()
        assert 0 <= box.x0 < box.x1 <= 1 and 0 < box.y0 < box.y1 < 1


def test_pyplot_state_is_unchanged(tmp_path):
    backend = matplotlib.rcParams._get_backend_or_none()
    figure = draw_predictions([make_image()], CLASSES, PALETTE)
    path = save_figure(figure, tmp_path / 'new' / 'drawn.png')
    assert matplotlib.rcParams._get_backend_or_none() == backend
    assert not matplotlib._pylab_helpers.Gcf.figs
    with Image.open(path) as image:
        size = figure.get_size_inches() * figure.dpi
        assert image.size == pytest.approx(tuple(size), abs=1)


def test_invalid_arguments_raise():
    for label in (-1, 3):
        for name in ('ground_truth', 'prediction'):
            images = [make_image(**{name: label})]
            with pytest.raises(ValueError, match=f'label {label} is invalid'):
                draw_predictions(images, CLASSES, PALETTE)
    with pytest.raises(ValueError, match='at least one'):
        draw_predictions([], CLASSES, PALETTE)
    with pytest.raises(ValueError, match='palette'):
        draw_predictions([make_image()], CLASSES, PALETTE[:2])
