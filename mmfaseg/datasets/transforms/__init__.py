"""Loading steps of the data sets."""

from .generate_shapes import GenerateShapes
from .load_camvid_annotations import LoadCamVidAnnotations

__all__ = ['GenerateShapes', 'LoadCamVidAnnotations']
