"""Gradient checkpointing of layers."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run_layer(layer: nn.Module, *inputs: Any, with_cp: bool) -> Any:
    """Returns the output of a layer.

    If ``with_cp``, only the inputs are stored, and the backward pass computes
    the layer again.
    """
    if with_cp and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False)
    return layer(*inputs)
