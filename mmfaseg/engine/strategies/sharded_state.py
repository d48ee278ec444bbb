"""Conversion between sharded and full state dicts.

Checkpoints do not depend on the number of processes.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from mmengine.dist import is_main_process
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


def gather_full_state(state: Any) -> Any:
    """Gathers a state of full tensors on the CPU of the first process.

    All processes have to call it; those behind the first one get None in the
    place of tensors that were shards. One tensor at a time is whole on a
    device.

    Args:
        state (Any): tensors in dicts and lists.
    """
    if isinstance(state, DTensor):
        whole = state.full_tensor()
        return whole.cpu() if is_main_process() else None
    if isinstance(state, Tensor):
        return state.cpu()
    if isinstance(state, Mapping):
        return {key: gather_full_state(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(gather_full_state(value) for value in state)
    return state


def shard_like(value: Any, like: Any) -> Any:
    """Returns this process' shard of a whole tensor.

    All processes have to call it, and get parts of the first one's tensor.
    What is no tensor, or of another shape, stays as it is.

    Args:
        value (Any): a whole tensor, or anything else.
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
    """Returns a whole state as an optimizer of shards can load it.

    Args:
        state (dict): ``state_dict`` of an optimizer, or of its wrapper.
        optimizer (Optimizer): of the same parameters.

    Raises:
        ValueError: if it has another number of parameters.
    """
    saved, own = (
        list(chain.from_iterable(group['params'] for group in groups))
        for groups in (state['param_groups'], optimizer.param_groups)
    )
    if len(saved) != len(own):
        raise ValueError(
            f'the checkpoint is of an optimizer of {len(saved)} parameters, '
            f'this one has {len(own)}: resume with the config that it was '
            'trained with, or start from its weights (load_from, no resume)'
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
