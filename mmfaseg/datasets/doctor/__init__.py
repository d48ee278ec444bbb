"""Dataset checks: common problems of custom data, and their fixes."""

from ...utils.diagnostics import Diagnostic
from .check import NUM_QUICK_IMAGES, SPLITS, DatasetReport, check_dataset
from .histogram import draw_histogram
from .label_statistics import LabelStatistics
from .split import Split

__all__ = [
    'NUM_QUICK_IMAGES',
    'SPLITS',
    'DatasetReport',
    'Diagnostic',
    'LabelStatistics',
    'Split',
    'check_dataset',
    'draw_histogram',
]
