"""Processing in chunks of bounded memory."""

import torch

# elements of the largest intermediate: on a CPU what fits the cache of a core,
# on a GPU 256 MB in float32
CPU_ELEMENTS = 1 << 19
GPU_ELEMENTS = 1 << 26


def is_recording(device: torch.device) -> bool:
    """Returns whether a graph is being compiled, exported or captured.

    The host must not compute values for such a graph.
    """
    # in this order: asking CUDA would break a graph that is being compiled
    if torch.compiler.is_compiling():
        return True
    return device.type == 'cuda' and torch.cuda.is_current_stream_capturing()


def chunks(count: int, numel: int, device: torch.device) -> list[slice]:
    """Splits independent items into chunks that are processed in turn.

    The result does not depend on the split; memory and time do. A graph that
    is being compiled or exported gets a single chunk, because the sizes may be
    unknown.

    Args:
        count (int): number of items.
        numel (int): elements of the largest intermediate of one item.
        device (torch.device): device of the items.

    Returns:
        list[slice]: at least one item each, in order.
    """
    if torch.compiler.is_compiling():
        return [slice(0, count)]
    budget = CPU_ELEMENTS if device.type == 'cpu' else GPU_ELEMENTS
    size = max(1, budget // max(1, numel))
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]
