"""Conversion of masks to 8-bit class indices.

Shapes:
    H, W: height and width of a mask in pixels.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from .image_pairs import ImagePairs

IGNORED = 255


def find_labels(pairs: ImagePairs) -> set[int] | None:
    """Returns all labels in the masks, or None if a mask is colored."""
    values: set[int] = set()
    for _, _, path in pairs:
        with Image.open(path) as image:
            mask = np.asarray(image)
        if mask.ndim == 3:
            return None
        values.update(np.unique(mask.astype(np.int64)).tolist())
    return values


def convert_masks(
    pairs: ImagePairs,
    folder: Path,
    remap: Mapping[int, int],
    colors: Mapping[tuple[int, ...], int] | None = None,
) -> None:
    """Writes masks of class indices, one channel, 8 bits, as PNG files.

    Args:
        pairs (ImagePairs): images and the masks to read.
        folder (Path): folder of the new masks.
        remap (Mapping[int, int]): new label of each label that changes.
        colors (Mapping, optional): class of each color (R, G, B); other
            colors become 255.

    Raises:
        ValueError: if a new label does not fit into 8 bits.
    """
    total = sum(map(len, pairs.names.values()))
    for name, _, path in track(pairs, f'masks to {folder}', total):
        with Image.open(path) as image:
            if colors:
                old = _from_colors(np.asarray(image.convert('RGB')), colors)
            else:
                old = np.asarray(image).astype(np.int64)
        mask = old.copy()
        for before, after in remap.items():
            mask[old == before] = after
        if mask.min() < 0 or mask.max() > IGNORED:
            raise ValueError(
                f'the label {mask.max()} of {path} does not fit into 8 bits: '
                f'use --remap {mask.max()}=LABEL'
            )
        file = folder / f'{name}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8)).save(file)


def _from_colors(
    image: np.ndarray, colors: Mapping[tuple[int, ...], int]
) -> np.ndarray:
    """Returns the class of each pixel (H, W) of a colored mask (H, W, 3)."""
    mask = np.full(image.shape[:2], IGNORED, np.int64)
    for color, label in colors.items():
        mask[(image == np.array(color)).all(-1)] = label
    return mask
