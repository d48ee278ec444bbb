"""Processing in chunks, and gradient checkpointing, to save memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

# elements of the largest intermediate tensor: 2 MB in float32 on CPUs, to fit
# into the cache; 256 MB on GPUs, for enough parallel work
CPU_ELEMENTS = 1 << 19
GPU_ELEMENTS = 1 << 26


def is_recording(device: torch.device) -> bool:
    """Returns whether a graph is being compiled, exported or captured.

    Values computed on the host would become constants of such a graph.
    """
    # checked first, as the query to CUDA would break a compiled graph
    if torch.compiler.is_compiling():
        return True
    return device.type == 'cuda' and torch.cuda.is_current_stream_capturing()


def chunks(
    count: int, numel: int, device: torch.device, multiple: int = 1
) -> list[slice]:
    """Splits independent items into chunks that are processed one by one.

    The split affects memory and time, but not the result. While compiling or
    exporting, there is a single chunk, because the sizes may be unknown.

    Args:
        count (int): number of items.
        numel (int): elements of the largest intermediate tensor of one item.
        device (torch.device): device of the items.
        multiple (int): on CPUs, all chunks but the last have a multiple of
            this number of items, if they fit, for threads with equal work.
    """
    if torch.compiler.is_compiling():
        return [slice(0, count)]
    numel = max(1, numel)
    if device.type == 'cpu':
        # up to 32 MB for several items
        multiple = max(1, min(multiple, 16 * CPU_ELEMENTS // numel))
        size = multiple * max(1, CPU_ELEMENTS // (multiple * numel))
    else:
        size = max(1, GPU_ELEMENTS // numel)
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def run_layer(layer: nn.Module, *inputs: Any, with_cp: bool) -> Any:
    """Returns the output of a layer.

    If ``with_cp``, only the inputs are stored, and the backward pass computes
    the layer again.
    """
    if with_cp and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False)
    return layer(*inputs)


def recompute(function: Callable[..., Any], *inputs: Any) -> Any:
    """Returns the result of a function that the backward pass computes again.

    For cheap functions with large intermediate results, which are not stored.
    The function must not draw random numbers or depend on a state that changes
    before the backward pass. While compiling, the compiler decides what to
    store.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return checkpoint(
            function, *inputs, use_reentrant=False, preserve_rng_state=False
        )
    return function(*inputs)
