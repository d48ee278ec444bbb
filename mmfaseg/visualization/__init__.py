"""Figures of what the network predicts and where it looks."""

from .focus import draw_focus
from .focus_maps import choose_queries
from .input_image import inputs_to_image
from .instances import draw_objects
from .objects import ObjectImage, Objects
from .predictions import LabelledImage, draw_predictions, segmentation_scores
from .report import draw_item_focus, spread_indices, write_report
from .sheet import figure_pixels, make_palette, save_figure

__all__ = [
    'LabelledImage',
    'ObjectImage',
    'Objects',
    'choose_queries',
    'draw_focus',
    'draw_item_focus',
    'draw_objects',
    'draw_predictions',
    'figure_pixels',
    'inputs_to_image',
    'make_palette',
    'save_figure',
    'segmentation_scores',
    'spread_indices',
    'write_report',
]
