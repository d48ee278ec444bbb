"""Gradient checkpointing, the same for both decoders."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run_layer(layer: nn.Module, *inputs: Any, with_cp: bool) -> Any:
    """Returns what a layer makes of its inputs.

    Args:
        layer (nn.Module): the layer.
        inputs: its arguments.
        with_cp (bool): where a backward pass may follow, keep the inputs only
            and run the layer again in it.
    """
    if with_cp and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False)
    return layer(*inputs)
