"""Colors alone do not distinguish the classes of ``ShapesDataset``."""

import numpy as np
import pytest

from mmfaseg.datasets.shapes_canvas import CLASSES
from mmfaseg.datasets.shapes_generator import generate_shapes

NUM_CLASSES = len(CLASSES)


def _color_table(split: str, count: int, bits: int) -> np.ndarray:
    """Counts the pixels of each color and class, (8**bits, 7)."""
    table = np.zeros(8**bits * NUM_CLASSES, np.int64)
    for index in range(count):
        image, labels = generate_shapes(index, split)
        blue, green, red = (image >> (8 - bits)).astype(np.int64).T
        color = ((blue << 2 * bits) | (green << bits) | red).T
        cell = color * NUM_CLASSES + labels
        table += np.bincount(cell.ravel(), minlength=table.size)
    return table.reshape(-1, NUM_CLASSES)


def _miou(guess: np.ndarray, table: np.ndarray) -> float:
    """Returns the mIoU of one predicted class per color, in per cent."""
    chosen = np.eye(NUM_CLASSES)[guess]
    confusion = table.T @ chosen
    hits = confusion.diagonal()
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    return 100 * (hits / union).mean()


def _fit_classifier(table: np.ndarray) -> np.ndarray:
    """Returns a class per color, with class weights tuned for mIoU."""
    smooth = table + 20 * table.sum(axis=0) / table.sum()
    chance = smooth / smooth.sum(axis=1, keepdims=True)
    weights = table.sum() / table.sum(axis=0)
    best = _miou((chance * weights).argmax(axis=1), table)
    for step in (2.0, 1.3, 1.1, 1.03):
        for _ in range(4):
            for label in range(NUM_CLASSES):
                for factor in (step, 1 / step):
                    tried = weights.copy()
                    tried[label] *= factor
                    guess = (chance * tried).argmax(axis=1)
                    score = _miou(guess, table)
                    if score > best:
                        best, weights = score, tried
    return (chance * weights).argmax(axis=1)


def test_color_classifier_learns_distinct_colors():
    labels = np.arange(4096) % NUM_CLASSES
    table = 90 * np.eye(NUM_CLASSES, dtype=np.int64)[labels] + 2
    assert _miou(_fit_classifier(table), table) > 70


@pytest.mark.parametrize('bits', [3, 4])
def test_color_classifier_stays_under_35_miou(bits):
    fitted = _color_table('train', 200, bits)
    guess = _fit_classifier(fitted)
    assert _miou(guess, fitted) < 35
    assert _miou(guess, _color_table('val', 50, bits)) < 35
