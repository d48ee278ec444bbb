"""The loss on the validation images."""

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import PixelData
from torch import Tensor

from mmfaseg.registry import HOOKS
from mmfaseg.utils.unwrap_model import unwrap_model

EARLIER = re.compile(r'(^|\.)d\d+\.')  # predictions before the last one
SEED = 0  # of the points that losses are sampled at, alike at each validation


@HOOKS.register_module()
class ValidationLossHook(Hook):
    """Adds the losses of the validation images to the metrics.

    ``val_loss`` is the sum of the losses of the decode head for its last
    prediction; every term is logged by its name, such as
    ``val_decode.loss_mask``, and so are those of auxiliary heads, which are
    not in the sum. Earlier predictions of a head (``d0.`` and so on) are left
    out. All of it goes where the scores go, and can choose the best
    checkpoint: ``save_best='val_loss', rule='less'``.

    The network is in evaluation mode. Labels are resized to what the test
    pipeline made of the image (nearest) and padded with void. Random
    numbers of CPU and CUDA are left as they were. Of several processes each
    takes as many batches as the one with fewest has; an image that the
    sampler repeats counts twice. For segmentors of mmseg.

    Args:
        max_batches (int, optional): only the first ones of each process;
            losses cost a second pass through the network.

    Raises:
        ValueError: if ``max_batches`` is not positive, there is no
            validation, or the network is of another kind.
    """

    priority = 'HIGHEST'  # before the hook that gives metrics to the log

    def __init__(self, max_batches: int | None = None) -> None:
        if max_batches is not None and max_batches < 1:
            raise ValueError(
                f'max_batches must be at least 1, got {max_batches}'
            )
        self.max_batches = max_batches
        self._limit = 0  # batches of this validation
        self._sums: dict[str, float] = {}
        self._count = 0

    def before_train(self, runner: Runner) -> None:
        """Refuses networks that are no segmentors of mmseg."""
        if runner.val_loop is None:
            raise ValueError(
                'ValidationLossHook: there is no validation; give '
                'val_dataloader, val_cfg and val_evaluator, or take the hook '
                'out of custom_hooks'
            )
        if not hasattr(unwrap_model(runner.model), 'decode_head'):
            raise ValueError(
                f'ValidationLossHook: {type(runner.model).__name__} is no '
                'segmentor of mmseg; take the hook out of custom_hooks'
            )

    def before_val_epoch(self, runner: Runner) -> None:
        """Agrees on how many batches every process has.

        Losses count masks over all processes, and would wait for them.
        """
        counts = dist.all_gather_object(len(runner.val_loop.dataloader))
        self._limit = min([*counts, self.max_batches or counts[0]])
        self._sums, self._count = {}, 0

    @torch.no_grad()
    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Adds the losses of one batch."""
        if batch_idx >= self._limit:
            return
        assert data_batch is not None
        model = unwrap_model(runner.model)
        batch = model.data_preprocessor(data_batch, False)
        sizes = [x.shape[-2:] for x in data_batch['inputs']]
        samples = [
            _resize_labels(sample, size, batch['inputs'], model)
            for sample, size in zip(batch['data_samples'], sizes, strict=True)
        ]
        devices = [batch['inputs'].device] if batch['inputs'].is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(SEED + batch_idx)
            losses = model.loss(batch['inputs'], samples)
        _, parts = model.parse_losses(losses)
        parts = {
            name: float(value)
            for name, value in parts.items()
            if 'loss' in name and not EARLIER.search(name)
        }
        parts['loss'] = sum(
            value for name, value in parts.items() if name.startswith('decode')
        )
        for name, value in parts.items():
            before = self._sums.get(name, 0.0)
            self._sums[name] = before + value * len(samples)
        self._count += len(samples)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Adds the means over all images, of all processes, to metrics."""
        if metrics is None or not self._limit:
            return
        numbers: list[Any] = dist.all_gather_object((self._sums, self._count))
        count = sum(n for _, n in numbers)
        names = [name for sums, _ in numbers for name in sums]
        for name in dict.fromkeys(names):
            metrics[f'val_{name}'] = (
                sum(x.get(name, 0.0) for x, _ in numbers) / count
            )


def _resize_labels(
    sample: Any, size: Sequence[int], inputs: Tensor, model: Any
) -> Any:
    """Returns the sample with labels of the size of the padded input."""
    if 'gt_sem_seg' not in sample:
        raise ValueError(
            'ValidationLossHook: the images of val_dataloader have no '
            'labels; put LoadAnnotations into its pipeline'
        )
    sample = sample.clone()
    labels = sample.gt_sem_seg.data
    if tuple(labels.shape[-2:]) != tuple(size):
        # float32 holds every label exactly
        resized = F.interpolate(
            labels[None].float(), tuple(size), mode='nearest-exact'
        )
        labels = resized[0].to(labels.dtype)
    margins = [0, inputs.size(-1) - size[1], 0, inputs.size(-2) - size[0]]
    void = model.data_preprocessor.seg_pad_val
    padded = F.pad(labels, margins, value=void)
    sample.gt_sem_seg = PixelData(data=padded)  # one of another size
    return sample
