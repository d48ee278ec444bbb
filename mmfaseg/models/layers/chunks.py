"""How much is worked on at once."""

import torch

# numbers in the largest intermediate: what a core of a CPU keeps in its
# cache; what a GPU works on at full speed, and 256 MB of it in float32
CPU_NUMBERS = 1 << 19
GPU_NUMBERS = 1 << 26


def is_recording(device: torch.device) -> bool:
    """Returns whether a graph is being compiled, exported or captured.

    It must hold all of its own work: nothing is remembered from one run to
    the next, and nothing is counted on the host. The order matters: asking
    CUDA would break a graph that is being compiled.
    """
    if torch.compiler.is_compiling():
        return True
    return device.type == 'cuda' and torch.cuda.is_current_stream_capturing()


def chunks(count: int, numbers: int, device: torch.device) -> list[slice]:
    """Cuts independent items into runs that are worked on one after another.

    The result does not depend on the cut; memory and time do. A graph that
    is being compiled or exported gets a single run, for it may serve sizes
    that are not known yet.

    Args:
        count (int): number of items.
        numbers (int): numbers of the largest intermediate of one item.
        device (torch.device): where they lie.

    Returns:
        list[slice]: at least one item each, in order.
    """
    if torch.compiler.is_compiling():
        return [slice(0, count)]
    budget = CPU_NUMBERS if device.type == 'cpu' else GPU_NUMBERS
    size = max(1, budget // max(1, numbers))
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]
