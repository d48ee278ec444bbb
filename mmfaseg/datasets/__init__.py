"""Data sets and the transforms that load them."""

from .camvid import CamVidDataset
from .shapes import ShapesDataset
from .transforms import (
    Corrupt,
    GenerateShapes,
    LoadCamVidAnnotations,
    NoisyLabels,
)

__all__ = [
    'CamVidDataset',
    'Corrupt',
    'GenerateShapes',
    'LoadCamVidAnnotations',
    'NoisyLabels',
    'ShapesDataset',
]
