"""A network as an ONNX file of standard operators."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from .comparison import compare
from .network import ExportedNetwork

INPUT, OUTPUTS = 'image', ('scores', 'labels')
# of each node that is not folded, and of packages that are not needed
CHATTY = ('onnxscript', 'torch.onnx')
SIZES = ((1, 64, 96), (2, 128, 128), (1, 256, 512))  # 1, 1 and 4 windows


@contextmanager
def _only_errors(*names: str) -> Iterator[None]:
    """Lets these loggers tell errors alone."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def write_onnx(program: ExportedProgram, path: str | Path) -> None:
    """Writes a file with a free batch and size.

    Args:
        program (ExportedProgram): see :func:`export_program`.
        path (str | Path): its end is ``.onnx``.

    Raises:
        RuntimeError: if an operator is none of the standard.
    """
    with _only_errors(*CHATTY):
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    assert exported is not None
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    exported.save(str(path))
    strange = sorted(
        {
            f'{node.domain}::{node.op_type}'
            for node in exported.model.graph
            if node.domain
        }
    )
    if strange or len(exported.model.functions):
        raise RuntimeError(
            f'{path} holds operators that are not of ONNX: {strange}'
        )


def check_onnx(
    network: ExportedNetwork,
    path: str | Path,
    sizes: Sequence[tuple[int, int, int]] = SIZES,
) -> list[dict[str, Any]]:
    """Compares a file in onnxruntime with the network in PyTorch.

    Args:
        network (ExportedNetwork): on the CPU.
        path (str | Path): what :func:`write_onnx` wrote.
        sizes (Sequence[tuple[int, int, int]]): batch, height and width.

    Returns:
        list[dict]: for each size ``size``, the largest ``difference`` of
        scores, and the share of ``labels`` that are others.

    Raises:
        RuntimeError: if a difference is larger than 1e-3; see
            :func:`mmfaseg.export.comparison.compare`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider']
    )

    def run(image: Tensor) -> tuple[Tensor, Tensor]:
        scores, labels = session.run(None, {INPUT: image.numpy()})
        return torch.from_numpy(scores), torch.from_numpy(labels)

    return [
        dict(size=size, **compare(network, run, size, str(path))._asdict())
        for size in sizes
    ]
