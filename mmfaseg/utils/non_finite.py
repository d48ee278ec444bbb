"""Search for the origin of non-finite values."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class NonFiniteError(ValueError):
    """A value that has to be finite is not."""


def name_non_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> str:
    """Returns the first name whose tensor is not finite, and how many are.

    Args:
        tensors (Iterable[tuple[str, Tensor | None]]): by name.

    Returns:
        str: such as ``'layers.3.bias (and 4 more)'``, empty if all are finite.
    """
    names = [
        name
        for name, tensor in tensors
        if tensor is not None and not bool(tensor.isfinite().all())
    ]
    if not names:
        return ''
    more = f' (and {len(names) - 1} more)' if len(names) > 1 else ''
    return f'{names[0]}{more}'


@torch.no_grad()
def find_non_finite(model: nn.Module, data: Any) -> str:
    """Describes the first module of a network with a non-finite output.

    It looks at the images, then at parameters and statistics, then lets the
    network see the images once more, in evaluation mode; afterwards it is
    as it was. It never raises: it is asked when something has failed.

    Args:
        model (nn.Module): a model of mmengine, not wrapped.
        data (Any): what its dataloader gives for training.
    """
    modes = [(module, module.training) for module in model.modules()]
    devices = {x.device for x in model.parameters() if x.is_cuda}
    try:
        with torch.random.fork_rng(sorted(devices, key=str)):
            return _trace_non_finite(model, copy.deepcopy(data))
    except Exception as error:
        return f'the network could not be looked at: {error!r}'
    finally:
        for module, training in modes:
            module.training = training


def _trace_non_finite(model: nn.Module, data: Any) -> str:
    batch = model.data_preprocessor(data, True)  # type: ignore
    if not _is_finite(batch['inputs']):
        return 'the images of the batch are not finite'
    state = [*model.named_parameters(), *model.named_buffers()]
    if name := name_non_finite((name, _local_tensor(x)) for name, x in state):
        return f'{name} of the network is not finite'
    if any(isinstance(x, DTensor) for x in model.parameters()):
        # other processes, which it takes for that, may not be here
        return (
            'it is spread over processes, which do not look into it; to know '
            'more, go on from a checkpoint without the strategy'
        )
    first: list[str] = []

    def look(name: str, output: Any) -> None:
        if not first and not _is_finite(output):
            first.append(name)

    hooks = [
        module.register_forward_hook(
            lambda _, __, output, name=name: look(name, output)
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
        return f'{first[0]} is the first to give what is not finite'
    return 'all that the network gives in evaluation mode is finite'


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
