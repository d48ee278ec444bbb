"""No step with values that are not finite."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmfaseg.registry import HOOKS
from mmfaseg.utils.non_finite import (
    NonFiniteError,
    find_non_finite,
    name_non_finite,
)

ACTIONS = ('stop', 'skip')


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Keeps NaN and infinity out of the weights, and says where they are from.

    Without it, one gradient that is not finite makes all weights so: clipping
    multiplies all of them. This hook looks at the gradients before each step
    of the optimizer. ``'stop'`` ends the training with the names of the
    iteration, the gradients and the module that was the first to give such
    values, the weights as they were before (but for the statistics of batch
    norms, which the forward pass moves); ``'skip'`` leaves the step out,
    tells it, and ends the training after ``max_skipped`` in a row. Costs of
    the matching that are not finite always stop it, with the same names: no
    pairs are made of them.

    In float16 the scaler of the loss looks itself, and leaves steps out; the
    hook keeps away. Gradients of several processes are means, so that all of
    them decide alike.

    Args:
        action (str): ``'stop'`` or ``'skip'``.
        max_skipped (int): steps in a row.

    Raises:
        ValueError: if an argument is neither.
        NonFiniteError: in training, see above.
    """

    priority = 'VERY_LOW'

    def __init__(self, action: str = 'stop', max_skipped: int = 10) -> None:
        if action not in ACTIONS:
            raise ValueError(f'action must be one of {ACTIONS}: {action!r}')
        if max_skipped < 1:
            raise ValueError(f'max_skipped must be at least 1: {max_skipped}')
        self.action = action
        self.max_skipped = max_skipped
        self.skipped = 0
        self._batch: Any = None

    def before_train(self, runner: Runner) -> None:
        """Stands between the network and the optimizer."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            raise ValueError(
                'NonFiniteHook: there are several optimizers; take the hook '
                'out of custom_hooks'
            )
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is None or not scaler.is_enabled():
            wrapper.step = partial(self._step, wrapper.step, runner)
        model = runner.model
        model.train_step = partial(self._train_step, model.train_step, runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Remembers the batch, to look at it again."""
        self._batch = data_batch

    def after_train(self, runner: Runner) -> None:
        """Steps back."""
        self._batch = None
        vars(runner.optim_wrapper).pop('step', None)
        vars(runner.model).pop('train_step', None)

    def _train_step(
        self, train_step: Callable, runner: Runner, *args: Any, **kwargs: Any
    ) -> Any:
        try:
            return train_step(*args, **kwargs)
        except NonFiniteError as error:
            if getattr(error, 'is_explained', False):
                raise
            raise self._explain(runner, str(error)) from error

    def _step(self, step: Callable, runner: Runner, **kwargs: Any) -> None:
        optimizer = runner.optim_wrapper.optimizer
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group['params']
            if parameter.grad is not None
        ]
        norms = torch.stack(torch._foreach_norm(gradients))
        if bool(norms.isfinite().all()):
            self.skipped = 0
            step(**kwargs)
            return
        named = runner.model.named_parameters()
        name = name_non_finite((name, x.grad) for name, x in named)
        text = f'the gradient of {name or "the whole"} is not finite'
        self.skipped += 1
        if self.action == 'stop' or self.skipped > self.max_skipped:
            raise self._explain(runner, text)
        print_log(
            f'iteration {runner.iter + 1}: {text}; the step is left out, '
            f'{self.skipped} in a row of at most {self.max_skipped}',
            logger='current',
            level=logging.WARNING,
        )

    def _explain(self, runner: Runner, text: str) -> NonFiniteError:
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        error = NonFiniteError(
            f'iteration {runner.iter + 1}: {text}. '
            f'{find_non_finite(model, self._batch)}'
        )
        error.is_explained = True  # type: ignore[attr-defined]
        return error
