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
from .heads import as_segmentor, is_detector, put_into_detector
from .mask2former import from_mask2former
from .mmfaseg import from_mmfaseg
from .report import make_table

__all__ = [
    'NORMALIZATION',
    'Conversion',
    'ConversionError',
    'Entry',
    'as_segmentor',
    'check_target',
    'describe_network',
    'detect_format',
    'from_faseg',
    'from_mask2former',
    'from_mmfaseg',
    'is_detector',
    'make_table',
    'put_into_detector',
    'read_state',
    'to_faseg',
    'write_state',
]
