"""The dataset doctor: traps of custom data, and what mends them."""

from ...utils.diagnostics import Diagnostic
from .census import Census
from .check import QUICK, SPLITS, Examination, check_dataset
from .histogram import draw_histogram
from .split import Split

__all__ = [
    'QUICK',
    'SPLITS',
    'Census',
    'Diagnostic',
    'Examination',
    'Split',
    'check_dataset',
    'draw_histogram',
]
