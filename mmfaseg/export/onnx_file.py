"""ONNX files with standard operators."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from .comparison import compare
from .network import ExportedNetwork

INPUT, OUTPUTS = 'image', ('scores', 'labels')
# 1, 1, 4 and 1 windows; the last size is always compared
SIZES = ((1, 64, 96), (2, 128, 128), (1, 256, 512), (3, 96, 224))


def write_onnx(
    program: ExportedProgram, path: str | Path, opset: int | None = None
) -> None:
    """Writes an ONNX file with dynamic batch and image size.

    Its metadata contains ``mean``, the padding value of each channel.

    Args:
        program (ExportedProgram): Result of :func:`export_program`.
        path (str | Path): Ends in ``.onnx``.
        opset (int, optional): Version of the ONNX operators; by default that
            of PyTorch's exporter.

    Raises:
        RuntimeError: If the graph contains non-standard operators.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # on optional packages, constant folding
    try:
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    finally:
        logging.disable(disabled)
    assert exported is not None
    mean = program.state_dict['mean'].flatten().tolist()
    exported.model.metadata_props['mean'] = ' '.join(map(str, mean))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    exported.save(str(path))
    custom = sorted(
        {
            f'{node.domain}::{node.op_type}'
            for node in exported.model.graph
            if node.domain
        }
    )
    if custom or len(exported.model.functions):
        raise RuntimeError(
            f'{path} contains operators that ONNX does not define: {custom}'
        )


def open_session(path: str | Path) -> Any:
    """Returns an onnxruntime session on the CPU, with PyTorch's threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider']
    )


def load_onnx(
    path: str | Path,
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Returns a function that runs a file in onnxruntime, on the CPU.

    It has the arguments and results of :class:`ExportedNetwork` and uses as
    many threads as PyTorch.
    """
    session = open_session(path)

    def run(image: Tensor) -> tuple[Tensor, Tensor]:
        scores, labels = session.run(None, {INPUT: image.numpy()})
        return torch.from_numpy(scores), torch.from_numpy(labels)

    return run


def check_onnx(
    network: ExportedNetwork,
    path: str | Path,
    sizes: Sequence[tuple[int, int, int]] = SIZES,
) -> list[dict[str, Any]]:
    """Compares a file in onnxruntime with the network in PyTorch.

    Args:
        network (ExportedNetwork): On the CPU.
        path (str | Path): File written by :func:`write_onnx`.
        sizes (Sequence[tuple[int, int, int]]): Batch, height and width.

    Returns:
        list[dict]: For each size: ``size``, the maximum ``difference`` of the
        scores, and the fraction of ``labels`` that differ.

    Raises:
        RuntimeError: If a difference exceeds 1e-3; see
            :func:`mmfaseg.export.comparison.compare`.
    """
    run = load_onnx(path)
    return [
        dict(size=size, **compare(network, run, size, str(path))._asdict())
        for size in sizes
    ]
