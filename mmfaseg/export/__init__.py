"""Export of trained networks with torch.export and to ONNX."""

from .comparison import compare
from .network import ExportedNetwork, export_program
from .onnx_file import SIZES, check_onnx, load_onnx, write_onnx

__all__ = [
    'SIZES',
    'ExportedNetwork',
    'check_onnx',
    'compare',
    'export_program',
    'load_onnx',
    'write_onnx',
]
