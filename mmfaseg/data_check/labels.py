"""Checks of label maps, and class frequencies of a split.

Shapes:
    H, W: height and width of an image in pixels.
    K: number of classes.
"""

from collections.abc import Mapping

import numpy as np

from ..utils.diagnostics import Diagnostics
from .split import Split


class LabelStatistics:
    """Counts pixels and images per class in one split.

    Attributes:
        pixel_counts (np.ndarray): pixels per class, int64, shape (K,).
        image_counts (np.ndarray): images that contain each class, int64,
            shape (K,).
        num_ignored (int): ignored pixels.
        num_images (int): images with valid labels.
    """

    def __init__(self, num_classes: int) -> None:
        self.pixel_counts = np.zeros(num_classes, np.int64)
        self.image_counts = np.zeros(num_classes, np.int64)
        self.num_ignored = 0
        self.num_images = 0

    @property
    def percentages(self) -> np.ndarray:
        """Share of the labeled pixels in per cent, shape (K,)."""
        return 100 * self.pixel_counts / max(int(self.pixel_counts.sum()), 1)

    def add(self, labels: np.ndarray, ignore_index: int) -> None:
        """Counts one label map (H, W) of class indices or ignored pixels."""
        known = labels[labels != ignore_index]
        counts = np.bincount(known, minlength=len(self.pixel_counts))
        self.pixel_counts += counts
        self.image_counts += counts > 0
        self.num_ignored += labels.size - known.size
        self.num_images += 1


def check_binary_masks(
    splits: Mapping[str, Split],
    statistics: Mapping[str, LabelStatistics],
    diagnostics: Diagnostics,
) -> None:
    """Reports two-class data in which one class is missing from all splits."""
    read = [name for name in statistics if statistics[name].num_images]
    if not read or any(len(splits[name].classes) != 2 for name in read):
        return
    pixels = np.sum([statistics[name].pixel_counts for name in read], axis=0)
    ignored = sum(statistics[name].num_ignored for name in read)
    if not pixels.all() and ignored:
        missing = splits[read[0]].classes[pixels.argmin()]
        diagnostics.error(
            ', '.join(read),
            f'{missing!r} never occurs, and '
            f'{ignored / (ignored + int(pixels.sum())):.0%} of the pixels are '
            'ignored',
            'if the masks hold 0 and 255, replace 255, which is ignored, by 1 '
            '(tools/new_dataset.py --remap 255=1)',
        )


def check_label_statistics(
    split: Split, stats: LabelStatistics, diagnostics: Diagnostics
) -> None:
    """Reports classes that never occur, and many ignored pixels."""
    if not stats.num_images:
        return
    missing = [
        split.classes[i] for i in np.nonzero(stats.pixel_counts == 0)[0]
    ]
    if missing:
        remedy = (
            'remove them from metainfo.classes if no split has them, or check '
            'the labels'
        )
        if split.reduce_zero_label and split.classes[-1] in missing:
            remedy = (
                'the last class is missing and reduce_zero_label=True: if '
                'label 0 is a class, set reduce_zero_label=False'
            )
        diagnostics.warn(
            split.name,
            f'never occur in {stats.num_images} images: {", ".join(missing)}',
            remedy,
        )
    total = int(stats.pixel_counts.sum()) + stats.num_ignored
    if total and stats.num_ignored > 0.5 * total:
        diagnostics.warn(
            split.name,
            f'{stats.num_ignored / total:.0%} of the pixels are ignored',
            'check ignore_index and reduce_zero_label',
        )


def suggest_label_fix(split: Split, invalid: list[int], lowest: int) -> str:
    """Suggests a fix for labels, as stored, that are not class indices."""
    count = len(split.classes)
    set_key = f'set {split.key}.reduce_zero_label=True in all splits'
    remap = (
        f'replace it by {split.ignore_index} (tools/new_dataset.py --remap '
        f'{invalid[0]}={split.ignore_index})'
    )
    if invalid == [255]:
        return 'set ignore_index=255, the usual value, in dataset and heads'
    if invalid == [count] and not split.reduce_zero_label:
        if lowest > 0:
            return f'labels start at 1: {set_key}'
        return (
            f'if 0 is the unlabeled class and {count} the last class, '
            f'{set_key}; if {count} marks unlabeled pixels, {remap}'
        )
    if len(invalid) == 1 and invalid[0] >= count:
        return (
            f'if {invalid[0]} marks unlabeled pixels, {remap}; otherwise add '
            'a class'
        )
    return (
        'list every class in metainfo.classes and set num_classes of the '
        'heads to their number'
    )
