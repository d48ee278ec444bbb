"""Loading steps, image corruptions and label noise."""

from .generate_shapes import GenerateShapes
from .image_corruption import (
    CORRUPTIONS,
    SEVERITIES,
    ImageCorruption,
    choose_corruptions,
    load_corrupt,
)
from .load_checked import LoadCheckedAnnotations, LoadCheckedImage
from .noisy_labels import NoisyLabels

__all__ = [
    'CORRUPTIONS',
    'SEVERITIES',
    'GenerateShapes',
    'ImageCorruption',
    'LoadCheckedAnnotations',
    'LoadCheckedImage',
    'NoisyLabels',
    'choose_corruptions',
    'load_corrupt',
]
