"""Trained networks for other programs: torch.export and ONNX."""

from .comparison import compare
from .network import ExportedNetwork
from .onnx_file import SIZES, check_onnx, write_onnx
from .program import export_program

__all__ = [
    'SIZES',
    'ExportedNetwork',
    'check_onnx',
    'compare',
    'export_program',
    'write_onnx',
]
