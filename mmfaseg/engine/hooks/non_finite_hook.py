"""Detection of non-finite gradients."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial, update_wrapper
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from mmfaseg.registry import HOOKS
from mmfaseg.utils.non_finite import (
    NonFiniteError,
    find_non_finite,
    name_non_finite,
)
from mmfaseg.utils.unwrap_model import unwrap_model

ACTIONS = ('stop', 'skip')


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Prevents optimizer steps with non-finite gradients.

    A single non-finite gradient makes all weights non-finite, as clipping
    scales all gradients by their norm. This hook checks the gradients before
    each optimizer step. ``'stop'`` raises an error with the iteration, the
    parameter and the first module with a non-finite output. The weights are
    not updated; only batch norm statistics have changed. ``'skip'`` skips the
    step with a warning, and raises an error after more than ``max_skipped``
    consecutive skipped steps. Non-finite matching costs always raise.

    With gradient accumulation, the error reports the iteration of the step and
    the origin in its last batch. A loss scaler (float16) itself skips
    non-finite steps, so the hook does not check gradients. In distributed
    training, all processes act alike, as they have the same gradients.

    Args:
        action (str): ``'stop'`` or ``'skip'``.
        max_skipped (int): maximum number of consecutive skipped steps.

    Raises:
        ValueError: if an argument is invalid.
        NonFiniteError: during training, if a gradient or matching cost is not
            finite.
    """

    priority = 'VERY_LOW'

    def __init__(self, action: str = 'stop', max_skipped: int = 10) -> None:
        if action not in ACTIONS:
            raise ValueError(
                f'action must be one of {ACTIONS}, got {action!r}'
            )
        if max_skipped < 1:
            raise ValueError(
                f'max_skipped must be at least 1, got {max_skipped}'
            )
        self.action = action
        self.max_skipped = max_skipped
        self.skipped = 0
        self._patches = ExitStack()

    def before_train(self, runner: Runner) -> None:
        """Patches the training loop and optimizer wrapper."""
        self._patches.close()
        wrapper, loop = runner.optim_wrapper, runner.train_loop
        if isinstance(wrapper, OptimWrapperDict):
            raise ValueError(
                'NonFiniteHook does not support several optimizers; remove '
                'the hook from custom_hooks'
            )
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is None or not scaler.is_enabled():
            self._patch(wrapper, 'step', partial(self._step, runner))
        self._patch(loop, 'run_iter', partial(self._run_iter, runner))

    def after_train(self, runner: Runner) -> None:
        """Removes the patches."""
        self._patches.close()

    def _patch(self, owner: Any, name: str, guard: Callable) -> None:
        """Replaces a method with a function that receives the method."""
        method = getattr(owner, name)
        if name in vars(owner):  # patched by mmengine's schedulers
            self._patches.callback(setattr, owner, name, method)
        else:
            self._patches.callback(delattr, owner, name)
        setattr(owner, name, update_wrapper(partial(guard, method), method))

    def _run_iter(
        self, runner: Runner, run_iter: Callable, *arguments: Any
    ) -> None:
        try:
            run_iter(*arguments)
        except NonFiniteError as error:
            self._patches.close()
            # the batch is the last argument
            origin = find_non_finite(unwrap_model(runner.model), arguments[-1])
            raise NonFiniteError(
                f'iteration {runner.iter + 1}: {error}. {origin}'
            ) from error
        except BaseException:
            self._patches.close()
            raise

    def _step(self, runner: Runner, step: Callable, **kwargs: Any) -> None:
        optimizer = runner.optim_wrapper.optimizer
        parameters = [
            parameter
            for group in optimizer.param_groups
            for parameter in group['params']
            if parameter.grad is not None
        ]
        gradients = [x.grad for x in parameters]
        norms = list(torch._foreach_norm(gradients)) if gradients else []
        if not norms or bool(torch.stack(norms).isfinite().all()):
            self.skipped = 0
            step(**kwargs)
            return
        # for sharded gradients, these are the norms of the full gradients
        norm_of = dict(zip(map(id, parameters), norms, strict=True))
        named = unwrap_model(runner.model).named_parameters()
        name = name_non_finite((name, norm_of.get(id(x))) for name, x in named)
        text = f'the gradient of {name or "the model"} is not finite'
        self.skipped += 1
        if self.action == 'stop' or self.skipped > self.max_skipped:
            raise NonFiniteError(text)
        print_log(
            f'iteration {runner.iter + 1}: {text}; skipping the step '
            f'({self.skipped} in a row, at most {self.max_skipped})',
            logger='current',
            level=logging.WARNING,
        )
