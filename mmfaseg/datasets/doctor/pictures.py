"""Every picture with its labels: are they what training believes?

Shapes:
    H, W: height and width of a picture in pixels.
    K: number of classes.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from mmengine.registry import TRANSFORMS
from PIL import Image, UnidentifiedImageError

from .finding import Findings
from .split import Split, count_suffixes

ORIENTATION = 0x0112  # EXIF: how the picture is to be turned


class Census:
    """Pixels and pictures of each class in one split.

    Attributes:
        pixels (np.ndarray): int64, shape (K,).
        pictures (np.ndarray): that have a class, int64, shape (K,).
        ignored (int): pixels.
        read (int): pictures.
    """

    def __init__(self, num_classes: int) -> None:
        self.pixels = np.zeros(num_classes, np.int64)
        self.pictures = np.zeros(num_classes, np.int64)
        self.ignored = 0
        self.read = 0

    def add(self, labels: np.ndarray, ignore_index: int) -> None:
        """Counts one label map, integers in 0..K-1 or ignored, (H, W)."""
        counts = np.bincount(labels.ravel(), minlength=ignore_index + 1)
        known = counts[: len(self.pixels)]
        self.pixels += known
        self.pictures += known > 0
        self.ignored += int(counts[ignore_index])
        self.read += 1


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
    steps = [TRANSFORMS.build(step) for step in _loading_steps(split)]
    for done, index in enumerate(indices, 1):
        entry = split.entries[index]
        if _files_are_there(split, entry, findings):
            _check_picture(split, dict(entry), steps, findings, census)
        yield done


def check_census(split: Split, census: Census, findings: Findings) -> None:
    """Tells of classes that never occur, and of what that may mean."""
    if not census.read:
        return
    missing = [
        name
        for name, pixels in zip(split.classes, census.pixels, strict=True)
        if not pixels
    ]
    total = int(census.pixels.sum()) + census.ignored
    if len(split.classes) == 2 and len(missing) and census.ignored:
        findings.error(
            split.name,
            f'{missing[0]!r} never occurs, and {census.ignored / total:.0%} '
            'of the pixels are ignored',
            'are these masks of 0 and 255? 255 is ignored: write 1 in its '
            'place (tools/new_dataset.py --remap 255=1 does)',
        )
        return
    if missing:
        hint = (
            'take them out of metainfo.classes if no split has them, or check '
            'the labels'
        )
        if split.reduce_zero_label and split.classes[-1] in missing:
            hint = (
                'the last class is missing where reduce_zero_label=True: is '
                'label 0 a class? then set it to False'
            )
        findings.warn(
            split.name,
            f'in {census.read} pictures never occur: {", ".join(missing)}',
            hint,
        )
    if total and census.ignored > 0.5 * total:
        findings.warn(
            split.name,
            f'{census.ignored / total:.0%} of the pixels are ignored',
            'check ignore_index and reduce_zero_label',
        )


def _loading_steps(split: Split) -> list[Mapping]:
    """Returns the steps that read picture and labels, and no other."""
    steps = []
    for step in split.pipeline:
        steps.append(step)
        kind = str(step['type']).rsplit('.', 1)[-1]
        if 'Annotations' in kind or kind.startswith('Generate'):
            return steps
    return steps[:1]


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
    census: Census,
) -> None:
    path = str(entry.get('img_path'))
    raw = _read_raw_mask(split, entry, findings)
    if raw is None and 'seg_map_path' in entry:
        return
    try:
        for step in steps:
            entry = step(entry)
    except Exception as error:
        # whatever a loader of any kind may raise
        findings.error(
            split.name,
            f'cannot be read: {type(error).__name__}: {error}',
            'write the file anew, or take it out',
            example=path,
        )
        return
    labels = entry.get('gt_seg_map')
    if labels is None:
        findings.error(
            split.name,
            'the pipeline loads no labels',
            f'add dict(type="LoadAnnotations") to {split.key}.pipeline',
        )
        return
    if entry['img'].shape[:2] != labels.shape[:2]:
        _tell_sizes(split, entry, labels, findings)
        return
    labels = labels.astype(np.int64)
    known = (labels >= 0) & (labels < len(split.classes))
    strange = np.unique(labels[~known & (labels != split.ignore_index)])
    if len(strange):
        values = sorted(np.unique(raw if raw is not None else labels).tolist())
        problem, remedy = _explain(split, strange.tolist(), values)
        findings.error(split.name, problem, remedy, example=path)
        return
    census.add(labels, split.ignore_index)


def _read_raw_mask(
    split: Split, entry: Mapping, findings: Findings
) -> np.ndarray | None:
    """Returns the labels as they are in the file; None if they are none."""
    path = entry.get('seg_map_path')
    if path is None or '://' in path:
        return None
    try:
        with Image.open(path) as image:
            mask = np.asarray(image)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        findings.error(
            split.name,
            f'a mask cannot be read: {error}',
            'write the file anew, or take it out',
            example=path,
        )
        return None
    if mask.ndim != 2:
        findings.error(
            split.name,
            f'a mask holds colours, {mask.shape[2]} numbers per pixel',
            'write the number of the class into one channel: '
            'tools/new_dataset.py --colours does',
            example=path,
        )
        return None
    if mask.dtype != bool and mask.max(initial=0) > 255:
        findings.error(
            split.name,
            f'a mask holds {mask.max()}, and mmseg reads 8 bits: 256 would '
            'be 0',
            'write masks of 8 bits',
            example=path,
        )
        return None
    return mask.astype(np.int64)


def _tell_sizes(
    split: Split, entry: Mapping, labels: np.ndarray, findings: Findings
) -> None:
    size, mask = entry['img'].shape[:2], labels.shape[:2]
    remedy = 'write both with one size'
    if size == mask[::-1] and _is_turned(entry['img_path']):
        remedy = (
            'the file says that the picture is to be turned (EXIF): read it '
            "with dict(type='LoadImageFromFile', "
            "color_type='color_ignore_orientation')"
        )
    findings.error(
        split.name,
        'picture and mask differ in size, for example '
        f'{size[1]}x{size[0]} and {mask[1]}x{mask[0]}'
        if remedy.startswith('write')
        else 'the picture is turned, and its mask is not',
        remedy,
        example=str(entry['img_path']),
    )


def _is_turned(path: str) -> bool:
    try:
        with Image.open(path) as image:
            return image.getexif().get(ORIENTATION, 1) > 4
    except OSError:
        return False


def _explain(
    split: Split, strange: list[int], values: list[int]
) -> tuple[str, str]:
    """Returns what strange labels are, and what mends them.

    Args:
        split (Split): of the picture.
        strange (list[int]): labels, as training sees them, of no class.
        values (list[int]): labels of the picture, as the file has them.
    """
    count = len(split.classes)
    problem = f'labels {strange} are of no class: there are {count}'
    if not split.reduce_zero_label and strange == [count] and values[0] > 0:
        return problem, (
            f'labels count from 1: set {split.key}.reduce_zero_label=True, in '
            'all splits'
        )
    if strange == [count] or (len(strange) == 1 and strange[0] > 200):
        return problem, (
            f'is {strange[0]} the label of pixels that belong to nothing? '
            f'write {split.ignore_index} in its place (tools/new_dataset.py '
            f'--remap {strange[0]}={split.ignore_index}), or add a class'
        )
    return problem, (
        'name every class in metainfo.classes, and set num_classes of the '
        'heads to their number'
    )
