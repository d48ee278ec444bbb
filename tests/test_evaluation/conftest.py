"""Label maps and data samples for tests of metrics."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

import mmfaseg  # noqa: F401

CLASSES = ('ground', 'pole', 'wire')
SIZES = ((1, 1), (1, 9), (9, 1), (2, 3), (13, 17), (24, 20))
IGNORED = 255


@pytest.fixture(autouse=True)
def mmseg_scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(params=SIZES, ids=lambda size: f'{size[0]}x{size[1]}')
def image_pairs(request) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ground truths and predictions of one size, with ignored pixels."""
    rng = np.random.default_rng(sum(request.param))
    pairs = []
    for block in (1, 3, 6):
        for rare in (0.1, 0.3, 1 / 3):
            for ignored in (0, 0.05, 0.4):
                ground_truth = _draw(rng, request.param, block, rare)
                other = _draw(rng, request.param, block, rare)
                wrong = rng.random(ground_truth.shape) < rng.choice(
                    [0.1, 0.5, 1]
                )
                prediction = np.where(wrong, other, ground_truth)
                ground_truth[rng.random(ground_truth.shape) < ignored] = (
                    IGNORED
                )
                pairs.append((ground_truth, prediction))
    return pairs


@pytest.fixture
def make_sample() -> Callable[[object, object], dict]:
    """Makes a data sample as mmseg's evaluator passes it to a metric."""

    def make(ground_truth: object, prediction: object) -> dict:
        maps = dict(gt_sem_seg=ground_truth, pred_sem_seg=prediction)
        return {
            name: dict(
                data=torch.as_tensor(np.ascontiguousarray(labels))[None]
            )
            for name, labels in maps.items()
        }

    return make


@pytest.fixture
def evaluate(make_sample) -> Callable[..., dict]:
    """Evaluates a metric on ground truths and predictions."""

    def evaluate(metric, pairs, classes=CLASSES) -> dict:
        metric.dataset_meta = dict(classes=classes)
        metric.process({}, [make_sample(*pair) for pair in pairs])
        return metric.evaluate(len(pairs))

    return evaluate


def _draw(
    rng: np.random.Generator, size: tuple[int, int], block: int, rare: float
) -> np.ndarray:
    """Draws noisy blocks of classes, the last two of which are rare."""
    height, width = size
    shares = (1 - 2 * rare, rare, rare)
    cells = rng.choice(3, (-(-height // block), -(-width // block)), p=shares)
    labels = np.kron(cells, np.ones((block, block), int))[:height, :width]
    noisy = rng.random(size) < 0.1
    return np.where(noisy, rng.choice(3, size), labels)
