"""FASeg: semantic segmentation with dynamic focus-aware positional queries."""

from .compat import prepare_stack
from .utils import log_stack_info, stack_info
from .version import __version__

prepare_stack()

__all__ = ['__version__', 'log_stack_info', 'stack_info']
