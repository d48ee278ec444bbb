"""Checks of every image and its labels."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import TRANSFORMS
from PIL import Image

from ...utils.diagnostics import Diagnostics
from ...utils.type_name import type_name
from .label_statistics import LabelStatistics
from .masks import check_labels, read_raw_mask
from .split import LOAD_LABELS, Split, count_suffixes

LOAD_IMAGE = ('LoadImageFromFile', 'LoadCheckedImage')
DARK = 16  # of 255; what 12 bits of 16 reach
ORIENTATION = 0x0112  # EXIF: how the image is to be turned


def check_images(
    split: Split,
    indices: list[int],
    diagnostics: Diagnostics,
    stats: LabelStatistics,
) -> Iterator[int]:
    """Reads images of a split and yields how many are done.

    Args:
        split (Split): whose entries are read.
        indices (list[int]): which of them.
        diagnostics (Diagnostics): collects the errors.
        stats (LabelStatistics): counts the labels.

    Yields:
        int: number of images read.
    """
    steps = [
        TRANSFORMS.build(_raise_on_unreadable(step))
        for step in _loading_steps(split)
    ]
    file_diagnostics = (
        _SkippedFiles(diagnostics) if split.skips else diagnostics
    )
    for done, index in enumerate(indices, 1):
        entry = split.entries[index]
        if _check_files_exist(split, entry, file_diagnostics):
            _check_image(
                split, dict(entry), steps, diagnostics, file_diagnostics, stats
            )
        yield done


class _SkippedFiles(Diagnostics):
    """Turns errors about files that training skips into warnings."""

    def __init__(self, diagnostics: Diagnostics) -> None:
        super().__init__(diagnostics.entries)

    def error(
        self, where: str, problem: str, remedy: str, example: str = ''
    ) -> None:
        """Adds a warning: see the parent."""
        self.warn(where, f'{problem}; training skips it', remedy, example)


def _loading_steps(split: Split) -> list:
    """Returns the steps that load image and labels."""
    return [
        step
        for step in split.pipeline
        if type_name(step).startswith(('Load', 'Generate'))
    ]


def _raise_on_unreadable(step: Any) -> Any:
    """Returns the step with ``on_error='raise'``."""
    if isinstance(step, Mapping) and step.get('on_error') == 'skip':
        return dict(step, on_error='raise')
    return step


def _check_files_exist(
    split: Split, entry: Mapping, diagnostics: Diagnostics
) -> bool:
    """Checks that the files of an entry exist."""
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
        diagnostics.error(
            split.name,
            'there is no image' if key == 'img_path' else 'there is no mask',
            f'{folder} holds {told or "nothing"}: set {split.key}.{setting}, '
            'or data_prefix, or take the entry out',
            example=name,
        )
        return False
    return True


def _check_image(
    split: Split,
    entry: dict,
    steps: list,
    diagnostics: Diagnostics,
    file_diagnostics: Diagnostics,
    stats: LabelStatistics,
) -> None:
    path = str(entry.get('img_path'))
    usual = split.step(LOAD_LABELS)
    if usual is not None and 'seg_map_path' not in entry:
        diagnostics.error(
            split.name,
            'there is no folder of masks',
            f'set {split.key}.data_prefix.seg_map_path',
        )
        return
    raw = None
    if usual is not None:  # another loader may read what it likes
        raw = read_raw_mask(split, entry, file_diagnostics)
        if raw is None:
            return
    try:
        for step in steps:
            entry = step(entry)
    except Exception as error:
        # whatever a loader of any kind may raise
        file_diagnostics.error(
            split.name,
            'an image or its mask cannot be read',
            'write the file anew, or take it out',
            example=f'{path}: {type(error).__name__}: {error}',
        )
        return
    labels = entry.get('gt_seg_map')
    if labels is None:
        if split.group != 'test':  # which may be without labels
            diagnostics.error(
                split.name,
                'the pipeline loads no labels',
                f"add dict(type='LoadAnnotations') to {split.key}.pipeline",
            )
        return
    _check_brightness(split, path, entry['img'], diagnostics)
    if _check_size(split, entry, labels, file_diagnostics):
        check_labels(split, path, raw, labels, diagnostics, stats)


def _check_brightness(
    split: Split, path: str, image: np.ndarray, diagnostics: Diagnostics
) -> None:
    """Warns of images that hardly use the numbers there are."""
    if image.dtype == np.uint8 and image.max(initial=0) < DARK:
        diagnostics.warn(
            split.name,
            'an image is nearly black',
            'are its numbers from 0 to 1, or of 12 bits in a file of 16, of '
            'which the upper 8 count? then write it with 0 to 255',
            example=f'{path}: at most {image.max(initial=0)} of 255',
        )


def _check_size(
    split: Split, entry: Mapping, labels: np.ndarray, diagnostics: Diagnostics
) -> bool:
    """Compares the sizes of image and mask."""
    size, mask = entry['img'].shape[:2], labels.shape[:2]
    path = str(entry.get('img_path'))
    turned = _orientation(split, path)
    remedy = (
        'the file says that it is to be turned (EXIF): read it with '
        "color_type='color_ignore_orientation' in the step that loads it"
    )
    if size == mask:
        if turned > 1:
            diagnostics.warn(
                split.name,
                'an image is turned when it is read, and its mask is not',
                f'if the mask is of the image as it is stored, {remedy}',
                example=path,
            )
        return True
    if size == mask[::-1] and turned > 4:
        diagnostics.error(
            split.name,
            'an image is turned when it is read, and its mask is not',
            remedy,
            example=path,
        )
        return False
    diagnostics.error(
        split.name,
        'image and mask differ in size',
        'write both with one size',
        example=f'{path}: {size[1]}x{size[0]} and {mask[1]}x{mask[0]}',
    )
    return False


def _orientation(split: Split, path: str) -> int:
    """Returns how mmcv turns an image, 1 for not at all."""
    step = split.step(LOAD_IMAGE)
    if step is None or 'ignore_orientation' in step.get('color_type', ''):
        return 1
    try:
        with Image.open(path) as image:
            return image.getexif().get(ORIENTATION, 1)
    except OSError:
        return 1
