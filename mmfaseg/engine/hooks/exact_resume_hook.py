"""Random numbers that do not depend on where a run was interrupted."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfaseg.registry import HOOKS

DATA, STEP = 0, 1  # what random numbers are for


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed training the same as one that was never interrupted.

    mmengine's checkpoints hold weights, optimizer and schedules, and it loads
    again what was trained on already, but they hold no state of random number
    generators: points of the losses, drop path and, without workers, the
    augmentation would go on from another state. This hook seeds the
    generators of Python, NumPy and PyTorch anew before every iteration, from
    the seed of the run, the number of the iteration and the process. So they
    do not depend on validations and other hooks in between, either.

    Weights are the same bit for bit where the operators themselves are
    deterministic: on CPUs; on GPUs with ``randomness=dict(
    deterministic=True)``. It works with loops over iterations. The numbers of
    processes and of workers have to be those of the interrupted run, and so
    has the seed: ``tools/train.py --resume`` takes it from the checkpoint.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Lets the loading of each batch begin from a seed of its own."""
        loop = runner.train_loop
        batches = getattr(loop, 'dataloader_iterator', None)
        if batches is not None and not isinstance(batches, _SeededBatches):
            loop.dataloader_iterator = _SeededBatches(batches, runner.seed)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seeds all generators."""
        _seed(runner.seed, STEP, runner.iter)


class _SeededBatches:
    """An endless iterator; what mmengine skips on resuming counts, too."""

    def __init__(self, batches: Iterator, seed: int) -> None:
        self.batches = batches
        self.seed = seed
        self.number = 0

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        _seed(self.seed, DATA, self.number)
        self.number += 1
        return next(self.batches)


def _seed(*numbers: int) -> None:
    sequence = np.random.SeedSequence([*numbers, get_rank()])
    of_python, of_numpy, of_torch = sequence.generate_state(3).tolist()
    random.seed(of_python)
    np.random.seed(of_numpy)
    torch.manual_seed(of_torch)  # of all devices
