"""Pictures of what the network predicts and where it looks."""

from .focus import draw_focus
from .focus_maps import choose_queries
from .instances import draw_objects
from .objects import ObjectPicture, Objects
from .picture import network_picture
from .predictions import LabelledPicture, draw_predictions, picture_scores
from .report import draw_item_focus, spread_indices, write_report
from .sheet import figure_pixels, make_palette, save_figure

__all__ = [
    'LabelledPicture',
    'ObjectPicture',
    'Objects',
    'choose_queries',
    'draw_focus',
    'draw_item_focus',
    'draw_objects',
    'draw_predictions',
    'figure_pixels',
    'make_palette',
    'network_picture',
    'picture_scores',
    'save_figure',
    'spread_indices',
    'write_report',
]
