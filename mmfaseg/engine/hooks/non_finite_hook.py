"""Detection of non-finite gradients."""

import copy
import logging
from collections.abc import Callable
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
    """Keeps NaN and infinity out of the weights and names their origin.

    A single non-finite gradient makes all weights non-finite, as clipping
    scales all gradients by their norm. This hook checks the gradients before
    each optimizer step. ``'stop'`` raises an error with the iteration, the
    gradients and the first module with a non-finite output. The weights are
    those before the step; only batch norm statistics have changed. ``'skip'``
    skips the step with a warning, and raises after more than ``max_skipped``
    skipped steps in a row. Non-finite matching costs always raise.

    With gradient accumulation, the error has the iteration of the step and is
    explained by its last batch. With a loss scaler (float16), the scaler skips
    non-finite steps and the hook does nothing. In distributed training, all
    processes decide alike, as they have the same gradients.

    Args:
        action (str): ``'stop'`` or ``'skip'``.
        max_skipped (int): skipped steps in a row before an error.

    Raises:
        ValueError: if an argument is invalid.
        NonFiniteError: during training, see above.
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
        self._batch: Any = None
        self._patches: list[_MethodPatch] = []

    def before_train(self, runner: Runner) -> None:
        """Patches the model and the optimizer wrapper."""
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapperDict):
            raise ValueError(
                'NonFiniteHook does not support several optimizers; remove it '
                'from custom_hooks'
            )
        self._remove_patches()
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is None or not scaler.is_enabled():
            self._patches.append(
                _MethodPatch(wrapper, 'step', self._step, runner)
            )
        self._patches.append(
            _MethodPatch(runner.model, 'train_step', self._train_step, runner)
        )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Keeps the batch for the search after an error."""
        self._batch = data_batch

    def after_train(self, runner: Runner) -> None:
        """Removes the patches."""
        self._remove_patches()

    def _remove_patches(self) -> None:
        while self._patches:
            self._patches.pop().remove()
        self._batch = None

    def _train_step(
        self, train_step: Callable, runner: Runner, *args: Any, **kwargs: Any
    ) -> Any:
        try:
            return train_step(*args, **kwargs)
        except NonFiniteError as error:
            text = str(error)
            if not text.startswith('iteration'):
                text = self._explain(runner, text)
            self._remove_patches()
            raise NonFiniteError(text) from error
        except BaseException:
            self._remove_patches()
            raise

    def _step(self, step: Callable, runner: Runner, **kwargs: Any) -> None:
        optimizer = runner.optim_wrapper.optimizer
        parameters = [
            parameter
            for group in optimizer.param_groups
            for parameter in group['params']
            if parameter.grad is not None
        ]
        gradients = [x.grad for x in parameters]
        norms = torch._foreach_norm(gradients) if gradients else []
        if not norms or bool(torch.stack(norms).isfinite().all()):
            self.skipped = 0
            step(**kwargs)
            return
        # norms are of full gradients, also where these are sharded
        norm_of = dict(zip(map(id, parameters), norms, strict=True))
        named = unwrap_model(runner.model).named_parameters()
        name = name_non_finite((name, norm_of.get(id(x))) for name, x in named)
        text = f'the gradient of {name or "the model"} is not finite'
        self.skipped += 1
        if self.action == 'stop' or self.skipped > self.max_skipped:
            raise NonFiniteError(self._explain(runner, text))
        print_log(
            f'iteration {runner.iter + 1}: {text}; the step is skipped '
            f'({self.skipped} in a row, at most {self.max_skipped})',
            logger='current',
            level=logging.WARNING,
        )

    def _explain(self, runner: Runner, text: str) -> str:
        where = find_non_finite(unwrap_model(runner.model), self._batch)
        return f'iteration {runner.iter + 1}: {text}. {where}'


class _MethodPatch:
    """Replaces a method of an object until it is removed.

    A deep copy of the object, as EMAHook makes one, has the original method.
    """

    def __init__(
        self, owner: Any, name: str, guard: Callable, runner: Runner
    ) -> None:
        self.owner, self.name = owner, name
        self.earlier = vars(owner).get(name)  # set if another patch is active
        self.method = getattr(owner, name)
        self.guard, self.runner = guard, runner
        setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.guard(self.method, self.runner, *args, **kwargs)

    def __deepcopy__(self, memo: dict) -> Any:
        return copy.deepcopy(self.method, memo)

    def remove(self) -> None:
        """Restores the method."""
        if vars(self.owner).get(self.name) is self:
            delattr(self.owner, self.name)
            if self.earlier is not None:
                setattr(self.owner, self.name, self.earlier)
