"""FASeg: semantic segmentation with dynamic focus-aware positional queries."""

from .compat import apply_patches
from .utils import log_stack_info, stack_info
from .version import __version__

apply_patches()

__all__ = ['__version__', 'log_stack_info', 'stack_info']
