"""Inference with trained networks."""

from .inferencer import FASegInferencer
from .model import find_model, load_model
from .outputs import Prediction
from .sources import Frame, read_frames

__all__ = [
    'FASegInferencer',
    'Frame',
    'Prediction',
    'find_model',
    'load_model',
    'read_frames',
]
