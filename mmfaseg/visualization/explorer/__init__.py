"""How a query comes to its answer, block by block: numbers and a page."""

from .exploration import BlockView, Exploration, explore
from .page import describe, make_page, write_page

__all__ = [
    'BlockView',
    'Exploration',
    'describe',
    'explore',
    'make_page',
    'write_page',
]
