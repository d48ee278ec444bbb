"""Label maps as PNG files."""

from pathlib import Path

import numpy as np
from PIL import Image

MAX_BYTE = 255


def write_label_png(
    path: Path,
    labels: np.ndarray,
    num_classes: int,
    palette: np.ndarray | None = None,
) -> None:
    """Writes a label map with 8 bits, or 16 bits for more than 256 labels.

    Args:
        path (Path): file to write; its folder is created.
        labels (np.ndarray): label of each pixel, integers, shape (H, W).
        num_classes (int): number of labels.
        palette (np.ndarray, optional): RGB color of each label, for viewers,
            uint8, shape (num_classes, 3); used with 8 bits.
    """
    wide = num_classes > MAX_BYTE + 1
    image = Image.fromarray(labels.astype(np.uint16 if wide else np.uint8))
    if palette is not None and not wide:
        image.putpalette(palette.ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
