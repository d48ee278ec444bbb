"""Training in bfloat16."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from mmfaseg.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bfloat16OptimWrapper(OptimWrapper):
    """Runs the forward pass under autocast in bfloat16, on any device.

    mmengine's ``AmpOptimWrapper`` rejects CPUs and always has a loss scaler.
    bfloat16 has the range of float32 and needs none. Weights, gradients and
    optimizer states remain float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enables autocast, in addition to gradient accumulation."""
        autocast = torch.autocast(get_device(), torch.bfloat16)
        with super().optim_context(model), autocast:
            yield
