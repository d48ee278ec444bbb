"""Loading, conversion and comparison of checkpoints."""

from .architecture import describe_network
from .conversion import (
    FORMATS,
    NORMALIZATION,
    Conversion,
    ConversionError,
    detect_format,
)
from .faseg import from_faseg, to_faseg
from .files import check_target, read_checkpoint, read_state, write_state
from .hugging_face import find_weights, read_class_names, to_hugging_face
from .key_mapping import (
    FASEG,
    HUGGING_FACE_MASK2FORMER,
    MASK2FORMER,
    MMFASEG,
    MMSEG_MASK2FORMER,
    from_mmseg_keys,
    is_detector,
    to_detector_key,
    to_mmseg_key,
    to_segmentor_keys,
)
from .latest import find_latest_checkpoint
from .report import make_table
from .warm_start import from_mask2former, from_mmfaseg

__all__ = [
    'FASEG',
    'FORMATS',
    'HUGGING_FACE_MASK2FORMER',
    'MASK2FORMER',
    'MMFASEG',
    'MMSEG_MASK2FORMER',
    'NORMALIZATION',
    'Conversion',
    'ConversionError',
    'check_target',
    'describe_network',
    'detect_format',
    'find_latest_checkpoint',
    'find_weights',
    'from_faseg',
    'from_mask2former',
    'from_mmfaseg',
    'from_mmseg_keys',
    'is_detector',
    'make_table',
    'read_checkpoint',
    'read_class_names',
    'read_state',
    'to_detector_key',
    'to_faseg',
    'to_hugging_face',
    'to_mmseg_key',
    'to_segmentor_keys',
    'write_state',
]
