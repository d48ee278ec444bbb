"""Loading, conversion and comparison of checkpoints."""

from .architecture import describe_network
from .conversion import (
    NORMALIZATION,
    Conversion,
    ConversionError,
    Entry,
    detect_format,
)
from .faseg import from_faseg, to_faseg
from .files import check_target, read_checkpoint, read_state, write_state
from .key_mapping import is_detector, to_segmentor_keys
from .latest import find_latest_checkpoint
from .report import make_table
from .warm_start import from_mask2former, from_mmfaseg

__all__ = [
    'NORMALIZATION',
    'Conversion',
    'ConversionError',
    'Entry',
    'check_target',
    'describe_network',
    'detect_format',
    'find_latest_checkpoint',
    'from_faseg',
    'from_mask2former',
    'from_mmfaseg',
    'is_detector',
    'make_table',
    'read_checkpoint',
    'read_state',
    'to_faseg',
    'to_segmentor_keys',
    'write_state',
]
