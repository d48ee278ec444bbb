"""How often each class occurs, and what that tells.

Shapes:
    H, W: height and width of a picture in pixels.
    K: number of classes.
"""

from collections.abc import Mapping

import numpy as np

from ...utils.diagnostics import Diagnostics
from .split import Split


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
        known = labels[labels != ignore_index]
        counts = np.bincount(known, minlength=len(self.pixels))
        self.pixels += counts
        self.pictures += counts > 0
        self.ignored += labels.size - known.size
        self.read += 1


def check_binary_masks(
    splits: Mapping[str, Split],
    censuses: Mapping[str, Census],
    diagnostics: Diagnostics,
) -> None:
    """Tells of two classes, one of which no split has, and ignored pixels."""
    read = [name for name in censuses if censuses[name].read]
    if not read or any(len(splits[name].classes) != 2 for name in read):
        return
    pixels = np.sum([censuses[name].pixels for name in read], axis=0)
    ignored = sum(censuses[name].ignored for name in read)
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


def check_census(
    split: Split, census: Census, diagnostics: Diagnostics
) -> None:
    """Tells of classes that never occur, and of what that may mean."""
    if not census.read:
        return
    missing = [
        name
        for name, pixels in zip(split.classes, census.pixels, strict=True)
        if not pixels
    ]
    total = int(census.pixels.sum()) + census.ignored
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
            f'in {census.read} pictures never occur: {", ".join(missing)}',
            hint,
        )
    if total and census.ignored > 0.5 * total:
        diagnostics.warn(
            split.name,
            f'{census.ignored / total:.0%} of the pixels are ignored',
            'check ignore_index and reduce_zero_label',
        )
