"""Masks: are their numbers classes, and read as they were written?"""

from collections.abc import Mapping

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...utils.diagnostics import Diagnostics
from .label_statistics import LabelStatistics
from .split import LOAD_LABELS, Split


def read_raw_mask(
    split: Split, entry: Mapping, diagnostics: Diagnostics
) -> np.ndarray | None:
    """Returns the labels as they are in the file; None if they are none."""
    path = str(entry['seg_map_path'])
    try:
        with Image.open(path) as image:
            mask, mode = np.asarray(image), image.mode
    except (OSError, UnidentifiedImageError, ValueError) as error:
        diagnostics.error(
            split.name,
            'a mask cannot be read',
            'write the file anew, or take it out',
            example=f'{path}: {error}',
        )
        return None
    if mask.ndim != 2:
        diagnostics.error(
            split.name,
            'a mask holds colours, several numbers per pixel',
            'write the number of the class into one channel: '
            'tools/new_dataset.py --colours does',
            example=path,
        )
        return None
    if mask.dtype != bool and mask.max(initial=0) > 255:
        diagnostics.error(
            split.name,
            'a mask holds more than 255, and mmseg reads 8 bits: 256 would '
            'be 0',
            'write masks of 8 bits',
            example=f'{path}: {mask.max()}',
        )
        return None
    backend = (split.step(LOAD_LABELS) or {}).get('imdecode_backend')
    if mode in ('P', '1') and backend not in (None, 'pillow'):
        diagnostics.error(
            split.name,
            f'{backend} reads the colours of a mask of mode {mode}',
            "take imdecode_backend out of LoadAnnotations: 'pillow' reads the "
            'numbers',
            example=path,
        )
        return None
    return mask.astype(np.int64)


def check_labels(
    split: Split,
    path: str,
    raw: np.ndarray | None,
    labels: np.ndarray,
    diagnostics: Diagnostics,
    stats: LabelStatistics,
) -> None:
    """Reports invalid labels; counts valid ones."""
    labels = labels.astype(np.int64)
    known = (labels >= 0) & (labels < len(split.classes))
    invalid = np.unique(labels[~known & (labels != split.ignore_index)])
    if not len(invalid):
        stats.add(labels, split.ignore_index)
        return
    file = raw if raw is not None else labels
    # the same pixels, as the file has them
    told = np.unique(file[np.isin(labels, invalid)]).tolist()
    diagnostics.error(
        split.name,
        f'labels are of no class: there are {len(split.classes)}',
        suggest_label_fix(split, told, int(file.min())),
        example=f'{path}: {told}',
    )


def suggest_label_fix(split: Split, invalid: list[int], lowest: int) -> str:
    """Suggests a fix for labels that are no class.

    Args:
        split (Split): of the image.
        invalid (list[int]): such labels, as the file has them.
        lowest (int): the lowest label in the file.
    """
    count = len(split.classes)
    key = f'{split.key}.reduce_zero_label=True, in all splits'
    remap = (
        f'write {split.ignore_index} in its place (tools/new_dataset.py '
        f'--remap {invalid[0]}={split.ignore_index})'
    )
    if invalid == [255]:
        return (
            'set ignore_index=255 in data set and heads, which it usually is'
        )
    if invalid == [count] and not split.reduce_zero_label:
        if lowest > 0:
            return f'labels count from 1: set {key}'
        return (
            f'does 0 mean nothing, and {count} the last class? then set '
            f'{key}. Does {count} mean nothing? then {remap}'
        )
    if len(invalid) == 1 and invalid[0] >= count:
        return (
            f'is {invalid[0]} the label of pixels that belong to nothing? '
            f'then {remap}, else add a class'
        )
    return (
        'name every class in metainfo.classes, and set num_classes of the '
        'heads to their number'
    )
