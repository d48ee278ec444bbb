"""Label maps as PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

MAX_BYTE = 255


def write_label_png(
    path: Path,
    labels: np.ndarray,
    num_classes: int,
    palette: Sequence[Sequence[int]] | None = None,
) -> None:
    """Writes a label map with 8 bits, or 16 bits for more than 256 labels.

    Args:
        path (Path): file to write; its folder is created.
        labels (np.ndarray): label of each pixel, integers, shape (H, W).
        num_classes (int): number of labels.
        palette (Sequence, optional): RGB color of each label, for viewers;
            used with 8 bits.
    """
    wide = num_classes > MAX_BYTE + 1
    image = Image.fromarray(labels.astype(np.uint16 if wide else np.uint8))
    if palette is not None and not wide:
        image.putpalette(np.asarray(palette, np.uint8).ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
