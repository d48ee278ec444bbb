"""Reproducible resuming of training."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfaseg.registry import HOOKS

DATA, STEP = 0, 1  # purposes of random numbers


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes resumed training equivalent to uninterrupted training.

    mmengine restores weights, optimizer, schedules and the position in the
    data, but not the state of the random number generators, on which sampled
    points, drop path and (without workers) augmentations depend. This hook
    seeds the generators of Python, NumPy and PyTorch before every iteration
    with the seed of the run, the iteration and the rank. Thus, validation and
    other hooks do not affect the random numbers of training.

    On CPUs, the weights are bit-identical. On GPUs, PyTorch has no
    deterministic implementation of some operators of Mask2Former's losses, so
    that results vary within rounding and
    ``randomness=dict(deterministic=True)`` raises an error. The hook supports
    iteration-based training loops. The seed and the numbers of processes and
    workers must not change; ``tools/train.py --resume`` reads the seed from
    the checkpoint.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Wraps the batch iterator, which then seeds before each batch."""
        loop = runner.train_loop
        batches = getattr(loop, 'dataloader_iterator', None)
        if batches is not None and not isinstance(batches, _SeededBatches):
            loop.dataloader_iterator = _SeededBatches(batches, runner.seed)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seeds the generators before each step."""
        _seed(runner.seed, STEP, runner.iter)


class _SeededBatches:
    """Iterator that seeds by batch number, counting skipped batches."""

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

    def skip_iter(self, num_iters: int) -> None:
        """Skips batches; the loop of OneDL's mmengine calls this method.

        The batches are loaded, so that the random numbers of the workers are
        those of uninterrupted training.
        """
        for _ in range(num_iters):
            next(self)


def _seed(*numbers: int) -> None:
    sequence = np.random.SeedSequence([*numbers, get_rank()])
    python_seed, numpy_seed, torch_seed = sequence.generate_state(3).tolist()
    random.seed(python_seed)
    np.random.seed(numpy_seed)
    torch.manual_seed(torch_seed)  # on all devices
