"""A network as a graph of PyTorch: torch.export."""

import torch
from torch.export import Dim, ExportedProgram

from ..ops import use_backend
from .network import ExportedNetwork

STRIDE = 32
MAX_BATCH = 256
MAX_SIDE = 512  # times 32 pixels
EXAMPLE = (2, 3, 128, 160)  # any that has no two equal sizes


def export_program(network: ExportedNetwork) -> ExportedProgram:
    """Returns a graph for any batch and any size in multiples of 32.

    The operators of mmfaseg stand in it by their definitions: it runs
    without this package.

    Args:
        network (ExportedNetwork): on the CPU.
    """
    batch = Dim('batch', min=1, max=MAX_BATCH)
    height = Dim('height', min=1, max=MAX_SIDE)
    width = Dim('width', min=1, max=MAX_SIDE)
    sizes = {0: batch, 2: STRIDE * height, 3: STRIDE * width}
    with use_backend('reference'), torch.no_grad():
        return torch.export.export(
            network,
            (255 * torch.rand(EXAMPLE),),
            dynamic_shapes=(sizes,),
            strict=False,
        )
