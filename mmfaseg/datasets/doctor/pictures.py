"""Every picture with its labels: are they what training believes?

Shapes:
    H, W: height and width of a picture in pixels.
    K: number of classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import TRANSFORMS
from PIL import Image, UnidentifiedImageError

from ...utils.finding import Findings
from ...utils.type_name import type_name
from .census import Census
from .split import LOAD_LABELS, Split, count_suffixes

LOAD_PICTURE = ('LoadImageFromFile', 'LoadCheckedImage')
ORIENTATION = 0x0112  # EXIF: how the picture is to be turned


def check_pictures(
    split: Split, indices: list[int], findings: Findings, census: Census
) -> Iterator[int]:
    """Reads pictures of a split and tells how many are done.

    Args:
        split (Split): whose entries are read.
        indices (list[int]): which of them.
        findings (Findings): gets what is wrong.
        census (Census): counts the labels.

    Yields:
        int: number of pictures read.
    """
    steps = [
        TRANSFORMS.build(_refusing(step)) for step in _loading_steps(split)
    ]
    of_files = _Skipped(findings) if split.skips else findings
    for done, index in enumerate(indices, 1):
        entry = split.entries[index]
        if _files_are_there(split, entry, of_files):
            _check_picture(
                split, dict(entry), steps, findings, of_files, census
            )
        yield done


class _Skipped(Findings):
    """Warns of files that training leaves out."""

    def __init__(self, findings: Findings) -> None:
        super().__init__(findings.entries)

    def error(
        self, where: str, problem: str, remedy: str, example: str = ''
    ) -> None:
        """Adds a warning: see the parent."""
        self.warn(where, f'{problem}; training skips it', remedy, example)


def _loading_steps(split: Split) -> list:
    """Returns the steps that read picture and labels, and no other."""
    return [
        step
        for step in split.pipeline
        if type_name(step).startswith(('Load', 'Generate'))
    ]


def _refusing(step: Any) -> Any:
    """Returns a step that leaves nothing out."""
    if isinstance(step, Mapping) and step.get('unreadable') == 'skip':
        return dict(step, unreadable='refuse')
    return step


def _step(split: Split, kinds: Sequence[str]) -> Mapping | None:
    """Returns mmseg's own loading step, or our checked one, or None."""
    for step in split.pipeline:
        if isinstance(step, Mapping) and type_name(step) in kinds:
            return step
    return None


def _files_are_there(split: Split, entry: Mapping, findings: Findings) -> bool:
    """Looks for the files, where the entry names any."""
    for key, setting in (
        ('img_path', 'img_suffix'),
        ('seg_map_path', 'seg_map_suffix'),
    ):
        name = entry.get(key)
        if name is None or '://' in name or Path(name).is_file():
            continue
        folder = Path(name).parent
        suffixes = count_suffixes(folder) if folder.is_dir() else {}
        told = ', '.join(f'{count} {x}' for x, count in suffixes.items())
        findings.error(
            split.name,
            'there is no picture' if key == 'img_path' else 'there is no mask',
            f'{folder} holds {told or "nothing"}: set {split.key}.{setting}, '
            'or data_prefix, or take the entry out',
            example=name,
        )
        return False
    return True


def _check_picture(
    split: Split,
    entry: dict,
    steps: list,
    findings: Findings,
    of_files: Findings,
    census: Census,
) -> None:
    path = str(entry.get('img_path'))
    usual = _step(split, LOAD_LABELS)
    if usual is not None and 'seg_map_path' not in entry:
        findings.error(
            split.name,
            'there is no folder of masks',
            f'set {split.key}.data_prefix.seg_map_path',
        )
        return
    raw = None
    if usual is not None:  # another loader may read what it likes
        raw = _read_raw_mask(split, entry, of_files)
        if raw is None:
            return
    try:
        for step in steps:
            entry = step(entry)
    except Exception as error:
        # whatever a loader of any kind may raise
        of_files.error(
            split.name,
            'a picture or its mask cannot be read',
            'write the file anew, or take it out',
            example=f'{path}: {type(error).__name__}: {error}',
        )
        return
    labels = entry.get('gt_seg_map')
    if labels is None:
        if split.group != 'test':  # which may be without labels
            findings.error(
                split.name,
                'the pipeline loads no labels',
                f"add dict(type='LoadAnnotations') to {split.key}.pipeline",
            )
        return
    if _fits(split, entry, labels, of_files):
        _check_labels(split, path, raw, labels, findings, census)


def _check_labels(
    split: Split,
    path: str,
    raw: np.ndarray | None,
    labels: np.ndarray,
    findings: Findings,
    census: Census,
) -> None:
    """Looks for labels that are no class, else counts."""
    labels = labels.astype(np.int64)
    known = (labels >= 0) & (labels < len(split.classes))
    strange = np.unique(labels[~known & (labels != split.ignore_index)])
    if not len(strange):
        census.add(labels, split.ignore_index)
        return
    file = raw if raw is not None else labels
    # the same pixels, as the file has them
    told = np.unique(file[np.isin(labels, strange)]).tolist()
    findings.error(
        split.name,
        f'labels are of no class: there are {len(split.classes)}',
        explain_labels(split, told, int(file.min())),
        example=f'{path}: {told}',
    )


def _read_raw_mask(
    split: Split, entry: Mapping, findings: Findings
) -> np.ndarray | None:
    """Returns the labels as they are in the file; None if they are none."""
    path = str(entry['seg_map_path'])
    try:
        with Image.open(path) as image:
            mask, mode = np.asarray(image), image.mode
    except (OSError, UnidentifiedImageError, ValueError) as error:
        findings.error(
            split.name,
            'a mask cannot be read',
            'write the file anew, or take it out',
            example=f'{path}: {error}',
        )
        return None
    if mask.ndim != 2:
        findings.error(
            split.name,
            'a mask holds colours, several numbers per pixel',
            'write the number of the class into one channel: '
            'tools/new_dataset.py --colours does',
            example=path,
        )
        return None
    if mask.dtype != bool and mask.max(initial=0) > 255:
        findings.error(
            split.name,
            'a mask holds more than 255, and mmseg reads 8 bits: 256 would '
            'be 0',
            'write masks of 8 bits',
            example=f'{path}: {mask.max()}',
        )
        return None
    backend = (_step(split, LOAD_LABELS) or {}).get('imdecode_backend')
    if mode in ('P', '1') and backend not in (None, 'pillow'):
        findings.error(
            split.name,
            f'{backend} reads the colours of a mask of mode {mode}',
            "take imdecode_backend out of LoadAnnotations: 'pillow' reads the "
            'numbers',
            example=path,
        )
        return None
    return mask.astype(np.int64)


def _fits(
    split: Split, entry: Mapping, labels: np.ndarray, findings: Findings
) -> bool:
    """Compares the sizes of picture and mask."""
    size, mask = entry['img'].shape[:2], labels.shape[:2]
    path = str(entry.get('img_path'))
    turned = _orientation(split, path)
    remedy = (
        'the file says that it is to be turned (EXIF): read it with '
        "color_type='color_ignore_orientation' in the step that loads it"
    )
    if size == mask:
        if turned > 1:
            findings.warn(
                split.name,
                'a picture is turned when it is read, and its mask is not',
                f'if the mask is of the picture as it is stored, {remedy}',
                example=path,
            )
        return True
    if size == mask[::-1] and turned > 4:
        findings.error(
            split.name,
            'a picture is turned when it is read, and its mask is not',
            remedy,
            example=path,
        )
        return False
    findings.error(
        split.name,
        'picture and mask differ in size',
        'write both with one size',
        example=f'{path}: {size[1]}x{size[0]} and {mask[1]}x{mask[0]}',
    )
    return False


def _orientation(split: Split, path: str) -> int:
    """Returns how mmcv turns a picture, 1 for not at all."""
    step = _step(split, LOAD_PICTURE)
    if step is None or 'ignore_orientation' in step.get('color_type', ''):
        return 1
    try:
        with Image.open(path) as image:
            return image.getexif().get(ORIENTATION, 1)
    except OSError:
        return 1


def explain_labels(split: Split, strange: list[int], lowest: int) -> str:
    """Returns what mends labels that are no class.

    Args:
        split (Split): of the picture.
        strange (list[int]): such labels, as the file has them.
        lowest (int): the lowest label in the file.
    """
    count = len(split.classes)
    key = f'{split.key}.reduce_zero_label=True, in all splits'
    remap = (
        f'write {split.ignore_index} in its place (tools/new_dataset.py '
        f'--remap {strange[0]}={split.ignore_index})'
    )
    if strange == [255]:
        return (
            'set ignore_index=255 in data set and heads, which it usually is'
        )
    if strange == [count] and not split.reduce_zero_label:
        if lowest > 0:
            return f'labels count from 1: set {key}'
        return (
            f'does 0 mean nothing, and {count} the last class? then set '
            f'{key}. Does {count} mean nothing? then {remap}'
        )
    if len(strange) == 1 and strange[0] >= count:
        return (
            f'is {strange[0]} the label of pixels that belong to nothing? '
            f'then {remap}, else add a class'
        )
    return (
        'name every class in metainfo.classes, and set num_classes of the '
        'heads to their number'
    )
