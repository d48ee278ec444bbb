"""Validation losses."""

import re
from collections import defaultdict
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

# loss names of predictions before the last one
AUXILIARY = re.compile(r'(^|\.)d\d+\.')
SEED = 0  # same sampled points in each validation epoch


@HOOKS.register_module()
class ValidationLossHook(Hook):
    """Adds the losses on the validation images to the metrics.

    ``val_loss`` is the sum of the decode head's losses for the last
    prediction. Its terms, such as ``val_decode.loss_mask``, and the losses of
    auxiliary heads are also logged, but not those of earlier predictions
    (``d0.`` and so on). ``save_best='val_loss', rule='less'`` selects the
    checkpoint with the lowest loss.

    The model is in evaluation mode. Labels are resized to the size of the
    network input (nearest) and padded with the ignore index. The random
    state is preserved. In distributed validation, all processes use the
    number of batches of the shortest dataloader, and images repeated by the
    sampler count twice. The hook supports only segmentors of mmseg.

    Args:
        max_batches (int, optional): maximum number of batches per process;
            limits the cost of the additional forward passes.

    Raises:
        ValueError: if ``max_batches`` is not positive, the config has no
            validation, or the model is not a segmentor of mmseg.
    """

    priority = 'HIGHEST'  # before the hook that logs the metrics

    def __init__(self, max_batches: int | None = None) -> None:
        if max_batches is not None and max_batches < 1:
            raise ValueError(
                f'max_batches must be at least 1, got {max_batches}'
            )
        self.max_batches = max_batches
        self._num_batches = 0
        self._sums: dict[str, float] = {}
        self._num_images = 0

    def before_train(self, runner: Runner) -> None:
        """Checks that the config has validation and a segmentor of mmseg."""
        if runner.val_loop is None:
            raise ValueError(
                'ValidationLossHook: there is no validation; set '
                'val_dataloader, val_cfg and val_evaluator, or remove the '
                'hook from custom_hooks'
            )
        if not hasattr(unwrap_model(runner.model), 'decode_head'):
            raise ValueError(
                f'ValidationLossHook: {type(runner.model).__name__} is not a '
                'segmentor of mmseg; remove the hook from custom_hooks'
            )

    def before_val_epoch(self, runner: Runner) -> None:
        """Sets the same number of batches in all processes.

        This is required because losses are synchronized.
        """
        counts = dist.all_gather_object(len(runner.val_loop.dataloader))
        self._num_batches = min([*counts, self.max_batches or counts[0]])
        self._sums, self._num_images = defaultdict(float), 0

    @torch.no_grad()
    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Adds the losses of one batch."""
        if batch_idx >= self._num_batches:
            return
        assert data_batch is not None
        model = unwrap_model(runner.model)
        batch = model.data_preprocessor(data_batch, False)
        inputs = batch['inputs']
        samples = [
            _resize_labels(sample, image.shape[-2:], inputs, model)
            for sample, image in zip(
                batch['data_samples'], data_batch['inputs'], strict=True
            )
        ]
        with torch.random.fork_rng([inputs.device] if inputs.is_cuda else []):
            torch.manual_seed(SEED + batch_idx)
            losses = model.loss(inputs, samples)
        for name, value in model.parse_losses(losses)[1].items():
            # 'loss' includes auxiliary losses
            if 'loss' not in name or name == 'loss' or AUXILIARY.search(name):
                continue
            total = float(value) * len(samples)
            self._sums[name] += total
            if name.startswith('decode'):
                self._sums['loss'] += total
        self._num_images += len(samples)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Adds the means over all images to the metrics."""
        if metrics is None or not self._num_batches:
            return
        parts: list[Any] = dist.all_gather_object(
            (dict(self._sums), self._num_images)
        )
        num_images = sum(count for _, count in parts)
        for name in dict.fromkeys(name for sums, _ in parts for name in sums):
            total = sum(sums.get(name, 0.0) for sums, _ in parts)
            metrics[f'val_{name}'] = total / num_images


def _resize_labels(
    sample: Any, size: Sequence[int], inputs: Tensor, model: Any
) -> Any:
    """Returns the sample with labels at the size of the padded input."""
    if 'gt_sem_seg' not in sample:
        raise ValueError(
            'ValidationLossHook: the images of val_dataloader have no '
            'labels; add LoadAnnotations to its pipeline'
        )
    sample = sample.clone()
    labels = sample.gt_sem_seg.data
    if tuple(labels.shape[-2:]) != tuple(size):
        # float32 represents all labels exactly
        resized = F.interpolate(
            labels[None].float(), tuple(size), mode='nearest-exact'
        )
        labels = resized[0].to(labels.dtype)
    margins = [0, inputs.size(-1) - size[1], 0, inputs.size(-2) - size[0]]
    padded = F.pad(labels, margins, value=model.data_preprocessor.seg_pad_val)
    # PixelData does not allow another size
    sample.gt_sem_seg = PixelData(data=padded)
    return sample
