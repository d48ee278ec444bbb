"""Data sets and the transforms that load them."""

from .camvid import CamVidDataset
from .shapes import ShapesDataset
from .transforms import GenerateShapes, LoadCamVidAnnotations

__all__ = [
    'CamVidDataset',
    'GenerateShapes',
    'LoadCamVidAnnotations',
    'ShapesDataset',
]
