"""Localization of non-finite values."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class NonFiniteError(ValueError):
    """Raised if a value that must be finite is not."""


def name_non_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> str:
    """Returns the name of the first non-finite tensor, and the count.

    For example ``'layers.3.bias (and 4 more)'``; empty if all are finite.
    """
    names = [
        name
        for name, tensor in tensors
        if tensor is not None and not _is_finite(tensor)
    ]
    if len(names) > 1:
        return f'{names[0]} (and {len(names) - 1} more)'
    return ''.join(names)


@torch.no_grad()
def find_non_finite(model: nn.Module, data: Any) -> str:
    """Describes the first non-finite value in a forward pass.

    Checks the images, parameters and buffers, then the outputs of all modules
    in evaluation mode, without changing the model. As the function is called
    after an error, it never raises one itself.
    """
    modes = [(module, module.training) for module in model.modules()]
    devices = {x.device for x in model.parameters() if x.is_cuda}
    try:
        with torch.random.fork_rng(sorted(devices, key=str)):
            return _trace_non_finite(model, copy.deepcopy(data))
    except Exception as error:
        return f'the search for its origin failed: {error!r}'
    finally:
        for module, training in modes:
            module.training = training


def _trace_non_finite(model: nn.Module, data: Any) -> str:
    batch = model.data_preprocessor(data, True)  # type: ignore
    if not _is_finite(batch['inputs']):
        return 'the images of the batch are not finite'
    state = [*model.named_parameters(), *model.named_buffers()]
    if name := name_non_finite((name, _local_tensor(x)) for name, x in state):
        return f'{name} of the model is not finite'
    if any(isinstance(x, DTensor) for x in model.parameters()):
        # a forward pass needs all processes, which may have failed earlier
        return (
            'the forward pass of a sharded model cannot be traced; to find '
            'the origin, resume from a checkpoint without the strategy'
        )
    first: list[str] = []

    def check(name: str, output: Any) -> None:
        if not first and not _is_finite(output):
            first.append(name)

    hooks = [
        module.register_forward_hook(
            lambda _, __, output, name=name: check(name, output)
        )
        for name, module in model.named_modules()
        if name
    ]
    model.eval()
    try:
        model(batch['inputs'], batch['data_samples'], mode='tensor')
    except Exception:
        if not first:
            raise
    finally:
        for hook in hooks:
            hook.remove()
    if first:
        return f'{first[0]} is the first module with a non-finite output'
    return 'all outputs in evaluation mode are finite'


def _local_tensor(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _is_finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, dict):
        return all(_is_finite(x) for x in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_finite(x) for x in value)
    return True
