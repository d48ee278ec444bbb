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

    All processes must call this function. Other processes receive None instead
    of sharded tensors. Tensors are gathered on the device one at a time.
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

    All processes must call this function; the values of the main process are
    used. Other objects and tensors of another shape are returned unchanged.
    """
    if not (isinstance(value, Tensor) and isinstance(like, DTensor)):
        return value
    if value.shape != like.shape:
        return value
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements
    )


def shard_optimizer_state(state: dict, optimizer: Optimizer) -> dict:
    """Shards the full state of an optimizer or optimizer wrapper.

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
            'start from the weights (set load_from and remove --resume)'
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
