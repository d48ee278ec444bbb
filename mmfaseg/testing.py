"""Tolerances, tiny inputs and memory measurement for tests and benchmarks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mmfaseg.models.layers import MaskPredictions

# absolute and relative, for sums over a few hundred terms
TOLERANCES = {
    torch.float64: 1e-10,
    torch.float32: 2e-5,
    torch.bfloat16: 5e-2,
    torch.float16: 5e-3,
}


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Compares two tensors with the tolerance of their dtype."""
    tolerance = TOLERANCES[actual.dtype]
    torch.testing.assert_close(
        actual, expected, atol=tolerance, rtol=tolerance
    )


def make_pyramid(
    batch: int,
    channels: tuple[int, int, int, int],
    height: int,
    width: int,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> list[Tensor]:
    """Returns random feature maps with strides 4, 8, 16 and 32.

    ``height`` and ``width`` are those of the image in pixels, ``channels``
    those of each map.
    """
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(
            batch,
            count,
            -(-height // stride),
            -(-width // stride),
            generator=generator,
            dtype=torch.float64,
        ).to(dtype)
        for count, stride in zip(channels, (4, 8, 16, 32), strict=True)
    ]


def as_predictions(masks: Sequence[Tensor]) -> MaskPredictions:
    """Returns predictions with the given mask logits.

    Each mask is one feature channel; gradients reach the masks unchanged.

    Args:
        masks (Sequence[Tensor]): Logits per prediction, shape (B, Q, H, W).
    """
    depth, (batch, queries) = len(masks), masks[0].shape[:2]
    embeds = torch.eye(depth * queries).to(masks[0])
    embeds = embeds.view(depth, 1, queries, -1).expand(-1, batch, -1, -1)
    return MaskPredictions(embeds, torch.cat(list(masks), 1))


def peak_memory(function: Callable[[], Any]) -> int:
    """Returns the peak memory of a call in bytes, including its results.

    Only allocations of PyTorch on the CPU are counted.
    """
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as log:
        function()
    events = [
        (event.start_ns(), event.nbytes())
        for event in log.profiler.kineto_results.events()
        if event.name() == '[memory]'
    ]
    held = peak = 0
    for _, size in sorted(events, key=lambda event: event[0]):
        held += size
        peak = max(peak, held)
    return peak
