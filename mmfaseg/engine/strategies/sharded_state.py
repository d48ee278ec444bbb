"""Conversion between sharded and full state dicts."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from mmengine.dist import is_main_process
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


def gather_full_state(state: Any) -> Any:
    """Gathers the full tensors of a state on the CPU of the main process.

    All processes must call it. The others get None instead of sharded
    tensors. One tensor at a time is gathered on the device.

    Args:
        state (Any): tensors in dicts and lists.
    """
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if is_main_process() else None
    if isinstance(state, Tensor):
        return state.cpu()
    if isinstance(state, Mapping):
        return {key: gather_full_state(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(gather_full_state(value) for value in state)
    return state


def shard_like(value: Any, like: Any) -> Any:
    """Shards a full tensor like a parameter.

    All processes must call it; the values are those of the main process.
    Returns other values, and tensors of another shape, unchanged.

    Args:
        value (Any): a full tensor, or anything else.
        like (Any): a parameter, sharded or not.
    """
    if not (isinstance(value, Tensor) and isinstance(like, DTensor)):
        return value
    if value.shape != like.shape:
        return value
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements
    )


def shard_optimizer_state(state: dict, optimizer: Optimizer) -> dict:
    """Shards a full state of an optimizer.

    Args:
        state (dict): state dict of an optimizer, or of its wrapper.
        optimizer (Optimizer): an optimizer of sharded parameters.

    Raises:
        ValueError: if the numbers of parameters differ.
    """
    saved, own = (
        list(chain.from_iterable(group['params'] for group in groups))
        for groups in (state['param_groups'], optimizer.param_groups)
    )
    if len(saved) != len(own):
        raise ValueError(
            f'the optimizer of the checkpoint has {len(saved)} parameters, '
            f'this one has {len(own)}: resume with the original config, or '
            'start from the weights (load_from, without resume)'
        )
    parameters = dict(zip(saved, own, strict=True))
    return dict(
        state,
        state={
            key: {
                name: shard_like(value, parameters[key])
                for name, value in values.items()
            }
            for key, values in state['state'].items()
        },
    )
