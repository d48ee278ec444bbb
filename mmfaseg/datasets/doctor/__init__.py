"""The dataset doctor: traps of custom data, and what mends them."""

from ...utils.finding import Finding
from .census import Census
from .check import QUICK, SPLITS, Examination, check_dataset
from .histogram import draw_histogram
from .split import Split

__all__ = [
    'QUICK',
    'SPLITS',
    'Census',
    'Examination',
    'Finding',
    'Split',
    'check_dataset',
    'draw_histogram',
]
