"""Figures of predictions and of where queries attend."""

from .canvas import figure_pixels, make_palette, save_figure
from .figures import dataset_palette, write_figures
from .focus import choose_queries, draw_focus
from .input_image import image_to_rgb, inputs_to_image
from .objects import Objects, draw_objects
from .predictions import draw_predictions, segmentation_scores

__all__ = [
    'Objects',
    'choose_queries',
    'dataset_palette',
    'draw_focus',
    'draw_objects',
    'draw_predictions',
    'figure_pixels',
    'image_to_rgb',
    'inputs_to_image',
    'make_palette',
    'save_figure',
    'segmentation_scores',
    'write_figures',
]
