"""No step with values that are not finite."""

import copy
import logging
from collections.abc import Callable, Sequence
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

    Where gradients are accumulated, the iteration that is named is that of
    the step, and only its batch is looked at again.

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
        self._patches: list[_MethodPatch] = []

    def before_train(self, runner: Runner) -> None:
        """Stands between the network and the optimizer."""
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapperDict):
            raise ValueError(
                'NonFiniteHook: there are several optimizers; take the hook '
                'out of custom_hooks'
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
        """Remembers the batch, to look at it again."""
        self._batch = data_batch

    def after_train(self, runner: Runner) -> None:
        """Steps back."""
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
        if all_finite(norms):
            self.skipped = 0
            step(**kwargs)
            return
        # of whole gradients, also where a process has but a part of them
        norm_of = dict(zip(map(id, parameters), norms, strict=True))
        named = unwrap_model(runner.model).named_parameters()
        name = name_non_finite((name, norm_of.get(id(x))) for name, x in named)
        text = f'the gradient of {name or "the whole"} is not finite'
        self.skipped += 1
        if self.action == 'stop' or self.skipped > self.max_skipped:
            raise NonFiniteError(self._explain(runner, text))
        print_log(
            f'iteration {runner.iter + 1}: {text}; the step is left out, '
            f'{self.skipped} in a row of at most {self.max_skipped}',
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


def all_finite(numbers: Sequence[torch.Tensor]) -> bool:
    """Returns whether all are; those of a device are looked at together."""
    devices = {x.device for x in numbers}
    return all(
        bool(
            torch.stack([x for x in numbers if x.device == device])
            .isfinite()
            .all()
        )
        for device in devices
    )
