"""Testing of a model on clean and corrupted images."""

import copy
import logging
from collections.abc import Iterator
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

InsertionPoint = tuple[list, int]  # transforms of a pipeline, and an index


class Tester:
    """Tests a trained model with the dataset and metric of its config.

    Raises:
        ValueError: if the test pipeline does not load an image, or the
            checkpoint is damaged or does not match the config.
    """

    def __init__(
        self, cfg: Config, checkpoint: str, device: str, seed: int
    ) -> None:
        cfg = copy.deepcopy(cfg)
        self.seed = seed
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        # otherwise, the metric would print a per-class table for each cell
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
    def test(self, cell: Cell) -> dict[str, float]:
        """Returns the metrics of a cell.

        Raises:
            ValueError: if the corruption fails on an image, or the metric
                has no mIoU.
        """
        with self._corrupted(cell):
            # the loader has a copy of the dataset
            loader = Runner.build_dataloader(
                dict(self.loader, dataset=self.dataset), seed=self.seed
            )
        for metric in self.evaluator.metrics:
            metric.results.clear()  # a failed cell leaves results
        for batch in loader:
            samples = self.model.test_step(batch)
            self.evaluator.process(data_samples=samples, data_batch=batch)
        metrics = self.evaluator.evaluate(len(loader.dataset))
        if METRIC not in metrics:
            raise ValueError(
                f'test_evaluator has {", ".join(metrics)}, but no {METRIC}: '
                "add dict(type='IoUMetric', iou_metrics=['mIoU'])"
            )
        return {key: float(value) for key, value in metrics.items()}

    @contextmanager
    def _corrupted(self, cell: Cell) -> Iterator[None]:
        """Inserts the corruption after the transforms that load images."""
        insertion_points = [] if cell == CLEAN else self.insertion_points
        for transforms, number in insertion_points:
            transforms.insert(number, ImageCorruption(*cell, self.seed))
        try:
            yield
        finally:
            for transforms, number in insertion_points:
                del transforms[number]


def find_insertion_points(dataset: Any) -> list[InsertionPoint]:
    """Returns the positions after the transforms that load the image.

    Applies the transforms to the first image until ``results['img']`` exists.

    Raises:
        ValueError: if no transform loads the image.
    """
    inner = getattr(dataset, 'datasets', None)
    if inner is None and hasattr(dataset, 'dataset'):
        inner = [dataset.dataset]
    if inner is not None:  # dataset wrapper
        return [point for x in inner for point in find_insertion_points(x)]
    point = None
    if hasattr(dataset, 'pipeline'):
        first = dataset.get_data_info(0)
        point = _find_insertion_point(dataset.pipeline, first)
    if point is None:
        raise ValueError(
            f'no transform in the test pipeline of {type(dataset).__name__} '
            "loads the image into results['img'], which is then corrupted; "
            'move that transform to the top level of the pipeline'
        )
    return [point]


def _find_insertion_point(
    pipeline: Any, results: Any
) -> InsertionPoint | None:
    # mmengine's or mmcv's Compose; other pipelines have several branches
    transforms = getattr(pipeline, 'transforms', None)
    if not isinstance(transforms, list):
        return None
    for number, transform in enumerate(transforms, 1):
        before = copy.deepcopy(results)
        results = transform(results)
        if not isinstance(results, dict):
            return None
        if 'img' in results:
            if not hasattr(transform, 'transforms'):
                return transforms, number
            return _find_insertion_point(transform.transforms, before)
    return None
