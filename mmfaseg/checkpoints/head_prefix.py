"""Key prefixes of the head in segmentors and detectors.

mmseg's segmentors call it ``decode_head``, the detectors of mmdet
``panoptic_head``; what is in it has the same names. Conversions work on the
names of a segmentor.
"""

from collections.abc import Mapping
from typing import TypeVar

from .conversion import Conversion

SEGMENTOR = 'decode_head.'
DETECTOR = 'panoptic_head.'

Value = TypeVar('Value')


def is_detector(names: Mapping[str, object]) -> bool:
    """Returns whether the keys are those of a detector."""
    return any(name.startswith(DETECTOR) for name in names)


def to_segmentor_keys(entries: Mapping[str, Value]) -> dict[str, Value]:
    """Returns the entries with the key prefix of a segmentor."""
    return {
        _replace(name, DETECTOR, SEGMENTOR): value
        for name, value in entries.items()
    }


def rename_to_detector(conversion: Conversion) -> None:
    """Renames converted entries to the key prefix of a detector."""
    conversion.state = {
        _replace(name, SEGMENTOR, DETECTOR): value
        for name, value in conversion.state.items()
    }
    conversion.missing_keys = [
        _replace(name, SEGMENTOR, DETECTOR) for name in conversion.missing_keys
    ]
    for entry in conversion.entries:
        if entry.target is not None:
            entry.target = _replace(entry.target, SEGMENTOR, DETECTOR)


def _replace(name: str, old: str, new: str) -> str:
    return new + name[len(old) :] if name.startswith(old) else name
