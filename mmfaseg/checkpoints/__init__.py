"""Checkpoints of other programs, and what their parameters are called."""

from .architecture import describe_network
from .conversion import (
    NORMALIZATION,
    Conversion,
    ConversionError,
    Entry,
    detect_format,
)
from .faseg import from_faseg, to_faseg
from .files import check_target, read_state, write_state
from .head_prefix import is_detector, rename_to_detector, to_segmentor_keys
from .mask2former import from_mask2former
from .mmfaseg import from_mmfaseg
from .report import make_table

__all__ = [
    'NORMALIZATION',
    'Conversion',
    'ConversionError',
    'Entry',
    'check_target',
    'describe_network',
    'detect_format',
    'from_faseg',
    'from_mask2former',
    'from_mmfaseg',
    'is_detector',
    'make_table',
    'read_state',
    'rename_to_detector',
    'to_faseg',
    'to_segmentor_keys',
    'write_state',
]
