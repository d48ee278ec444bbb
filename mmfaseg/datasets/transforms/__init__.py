"""Loading steps of the data sets, and steps that do harm to what they load."""

from .corrupt import (
    CORRUPTIONS,
    SEVERITIES,
    Corrupt,
    choose_corruptions,
    load_corrupt,
)
from .generate_shapes import GenerateShapes
from .load_camvid_annotations import LoadCamVidAnnotations
from .load_checked import LoadCheckedAnnotations, LoadCheckedImage
from .noisy_labels import NoisyLabels

__all__ = [
    'CORRUPTIONS',
    'SEVERITIES',
    'Corrupt',
    'GenerateShapes',
    'LoadCamVidAnnotations',
    'LoadCheckedAnnotations',
    'LoadCheckedImage',
    'NoisyLabels',
    'choose_corruptions',
    'load_corrupt',
]
