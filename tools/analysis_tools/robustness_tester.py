"""Tests one network on clean and corrupted images."""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint
from robustness_results import CLEAN, METRIC, Cell

from mmfaseg.checkpoints.compatibility import check_compatible
from mmfaseg.datasets.transforms import ImageCorruption

InsertionPoint = tuple[list, int]  # steps of a pipeline, and an index


class Tester:
    """A trained network, the test set of its config and its metric.

    Args:
        cfg: the config; it stays as it is.
        checkpoint: the checkpoint file.
        device: cpu, cuda or cuda:N.
        seed: seed of the corruptions.

    Raises:
        ValueError: If no step of the test pipeline loads the image, or the
            checkpoint is damaged or of another config.
    """

    def __init__(
        self, cfg: Config, checkpoint: str, device: str, seed: int
    ) -> None:
        cfg = copy.deepcopy(cfg)
        self.seed = seed
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        # the metric would print a table of classes for each cell
        MMLogger.get_current_instance().setLevel(logging.WARNING)
        model = MODELS.build(cfg.model)
        content = load_checkpoint(model, checkpoint, map_location='cpu')
        check_compatible(content.get('state_dict', content), model, checkpoint)
        if device == 'cpu':
            model = revert_sync_batchnorm(model)
        self.model = model.to(device).eval()
        self.loader = dict(cfg.test_dataloader, persistent_workers=False)
        self.dataset = DATASETS.build(self.loader['dataset'])
        self.insertion_points = find_insertion_points(self.dataset)
        self.evaluator = Evaluator(cfg.test_evaluator)
        self.evaluator.dataset_meta = self.dataset.metainfo

    @torch.no_grad()
    def test(self, cell: Cell, advance: Callable[[float], None]) -> dict:
        """Return the metrics of a cell.

        Args:
            cell: corruption and severity, or `CLEAN`.
            advance: is told after each batch which part of the cell it was.

        Raises:
            ValueError: If the corruption fails on an image, or the metric
                gives no mIoU.
        """
        with self._corrupted(cell):
            # which copies the data set
            loader = Runner.build_dataloader(
                dict(self.loader, dataset=self.dataset), seed=self.seed
            )
        for metric in self.evaluator.metrics:
            metric.results.clear()  # of a cell that failed half-way
        for batch in loader:
            samples = self.model.test_step(batch)
            self.evaluator.process(data_samples=samples, data_batch=batch)
            advance(1 / len(loader))
        metrics = self.evaluator.evaluate(len(loader.dataset))
        if METRIC not in metrics:
            raise ValueError(
                f'test_evaluator gives {", ".join(metrics)}, and no {METRIC}: '
                "have dict(type='IoUMetric', iou_metrics=['mIoU']) in it"
            )
        return {key: float(value) for key, value in metrics.items()}

    @contextmanager
    def _corrupted(self, cell: Cell) -> Iterator[None]:
        """Have the images corrupted behind the steps that load them."""
        insertion_points = [] if cell == CLEAN else self.insertion_points
        for steps, number in insertion_points:
            steps.insert(number, ImageCorruption(*cell, self.seed))
        try:
            yield
        finally:
            for steps, number in insertion_points:
                del steps[number]


def find_insertion_points(dataset: Any) -> list[InsertionPoint]:
    """Return the positions after the steps that load or generate the image.

    The steps are tried on the first image, until there is one.

    Raises:
        ValueError: If there is no such step.
    """
    inner = getattr(dataset, 'datasets', None)
    if inner is None and hasattr(dataset, 'dataset'):
        inner = [dataset.dataset]
    if inner is not None:  # a wrapper of data sets
        return [
            insertion_point
            for each in inner
            for insertion_point in find_insertion_points(each)
        ]
    steps = _steps_of(getattr(dataset, 'pipeline', None))
    insertion_point = None
    if steps is not None:
        insertion_point = _find_insertion_point(
            steps, dataset.get_data_info(0)
        )
    if insertion_point is None:
        raise ValueError(
            f'no step of the test pipeline of {type(dataset).__name__} loads '
            "the image as results['img']: the corruption has to stand "
            'directly behind it; move that step to the top of the pipeline'
        )
    return [insertion_point]


def _find_insertion_point(steps: list, entry: Any) -> InsertionPoint | None:
    """Return the position after the step that adds img to the entry."""
    for number, step in enumerate(steps, 1):
        before = copy.deepcopy(entry)
        entry = step(entry)
        if not isinstance(entry, dict):
            return None
        if 'img' in entry:
            if not hasattr(step, 'transforms'):
                return steps, number
            inner = _steps_of(step.transforms)
            return (
                None if inner is None else _find_insertion_point(inner, before)
            )
    return None


def _steps_of(pipeline: Any) -> list | None:
    """Return the steps of a Compose, of mmengine or mmcv."""
    steps = getattr(pipeline, 'transforms', None)
    return steps if isinstance(steps, list) else None
