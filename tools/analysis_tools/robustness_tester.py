"""Testing of a model on clean and corrupted images."""

import copy
import logging

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from robustness_results import CLEAN, METRIC, Cell

from mmfaseg.apis.model import load_network


class Tester:
    """Tests a trained model with the dataset and metric of its config.

    Raises:
        ValueError: if the test pipeline does not load the image first, or
            the checkpoint is damaged or does not match the config.
    """

    def __init__(
        self, cfg: Config, checkpoint: str, device: str, seed: int
    ) -> None:
        cfg = copy.deepcopy(cfg)
        self.seed = seed
        # otherwise, the metric would print a per-class table for each cell
        MMLogger.get_current_instance().setLevel(logging.WARNING)
        self.model, _ = load_network(cfg, checkpoint, device)
        check_pipeline(cfg)
        self.loader = copy.deepcopy(cfg.test_dataloader)
        self.loader.persistent_workers = False
        self.evaluator = Evaluator(cfg.test_evaluator)

    @torch.no_grad()
    def test(self, cell: Cell) -> dict[str, float]:
        """Returns the metrics of a cell.

        Raises:
            ValueError: if the corruption fails on an image, or the metric
                has no mIoU.
        """
        config = copy.deepcopy(self.loader)
        if cell != CLEAN:
            corruption, severity = cell
            config.dataset.pipeline.insert(
                1,
                dict(
                    type='mmfaseg.ImageCorruption',
                    corruption=corruption,
                    severity=severity,
                    seed=self.seed,
                ),
            )
        loader = Runner.build_dataloader(config, seed=self.seed)
        self.evaluator.dataset_meta = loader.dataset.metainfo
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


def check_pipeline(cfg: Config) -> None:
    """Applies the first transform of the test pipeline to the first image.

    Raises:
        ValueError: if it does not load the image, or the dataset, such as a
            wrapper, has no pipeline.
    """
    dataset = cfg.test_dataloader.dataset
    pipeline = dataset.get('pipeline')
    if not pipeline:
        raise ValueError(
            f'{cfg.filename}: test_dataloader.dataset has no pipeline; '
            'dataset wrappers such as ConcatDataset are not supported'
        )
    first = DATASETS.build(dict(dataset, pipeline=pipeline[:1]))[0]
    if 'img' not in first:
        raise ValueError(
            f'{cfg.filename}: the first transform of test_dataloader.dataset.'
            "pipeline must load the image into results['img'], because the "
            'corruption is inserted after it'
        )
