"""Checks of a config against its data, and configs for new datasets."""

from .categories import check_categories
from .check import NUM_QUICK_IMAGES, DatasetReport, check_dataset
from .histogram import draw_histogram
from .labels import LabelStatistics
from .new_dataset import create_dataset
from .split import Split

__all__ = [
    'NUM_QUICK_IMAGES',
    'DatasetReport',
    'LabelStatistics',
    'Split',
    'check_categories',
    'check_dataset',
    'create_dataset',
    'draw_histogram',
]
