"""Datasets, and transforms of their pipelines."""

from .camvid import CamVidDataset
from .shapes import ShapesDataset
from .transforms import (
    GenerateShapes,
    ImageCorruption,
    LoadCheckedAnnotations,
    LoadCheckedImage,
    NoisyLabels,
)

__all__ = [
    'CamVidDataset',
    'GenerateShapes',
    'ImageCorruption',
    'LoadCheckedAnnotations',
    'LoadCheckedImage',
    'NoisyLabels',
    'ShapesDataset',
]
