"""The dataset doctor: traps of custom data, and what mends them."""

from .census import Census
from .check import QUICK, SPLITS, Examination, check_dataset
from .finding import Finding
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
