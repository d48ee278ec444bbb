"""Class frequencies of a split, and checks of them.

Shapes:
    H, W: height and width of an image in pixels.
    K: number of classes.
"""

from collections.abc import Mapping

import numpy as np

from ...utils.diagnostics import Diagnostics
from .split import Split


class LabelStatistics:
    """Counts pixels and images per class in one split.

    Attributes:
        pixel_counts (np.ndarray): pixels per class, int64, shape (K,).
        image_counts (np.ndarray): images that contain each class, int64,
            shape (K,).
        num_ignored (int): ignored pixels.
        num_images (int): images that were read.
    """

    def __init__(self, num_classes: int) -> None:
        self.pixel_counts = np.zeros(num_classes, np.int64)
        self.image_counts = np.zeros(num_classes, np.int64)
        self.num_ignored = 0
        self.num_images = 0

    def add(self, labels: np.ndarray, ignore_index: int) -> None:
        """Counts one label map, values in 0..K-1 or ignored, (H, W)."""
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
    missing = [x for x in range(2) if not pixels[x]]
    if missing and ignored:
        diagnostics.error(
            ', '.join(read),
            f'{splits[read[0]].classes[missing[0]]!r} never occurs, and '
            f'{ignored / (ignored + int(pixels.sum())):.0%} of the pixels are '
            'ignored',
            'are these masks of 0 and 255? 255 is ignored: write 1 in its '
            'place (tools/new_dataset.py --remap 255=1 does)',
        )


def check_label_statistics(
    split: Split, stats: LabelStatistics, diagnostics: Diagnostics
) -> None:
    """Reports classes that never occur, and many ignored pixels."""
    if not stats.num_images:
        return
    missing = [
        name
        for name, pixels in zip(split.classes, stats.pixel_counts, strict=True)
        if not pixels
    ]
    total = int(stats.pixel_counts.sum()) + stats.num_ignored
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
        diagnostics.warn(
            split.name,
            f'in {stats.num_images} images never occur: {", ".join(missing)}',
            hint,
        )
    if total and stats.num_ignored > 0.5 * total:
        diagnostics.warn(
            split.name,
            f'{stats.num_ignored / total:.0%} of the pixels are ignored',
            'check ignore_index and reduce_zero_label',
        )
