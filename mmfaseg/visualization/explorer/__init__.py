"""Attention of queries, layer by layer, as arrays and as a web page."""

from .exploration import MAX_QUERIES, explore, view_trace
from .measures import nan_mean
from .page import (
    MEASURES,
    check_page_name,
    describe,
    make_page,
    write_page,
)
from .views import Exploration, LayerView

__all__ = [
    'MAX_QUERIES',
    'MEASURES',
    'Exploration',
    'LayerView',
    'check_page_name',
    'describe',
    'explore',
    'make_page',
    'nan_mean',
    'view_trace',
    'write_page',
]
