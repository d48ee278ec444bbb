"""Pairs of images and masks in two folders, and their splits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..utils.image_files import IMAGES, scan_files


@dataclass(frozen=True)
class ImagePairs:
    """Images with their masks.

    Attributes:
        images (Path): folder of the images.
        masks (Path): folder of the masks.
        img_suffix (str): suffix of all images.
        seg_map_suffix (str): suffix of all masks, for example
            ``'_mask.png'``.
        names (dict[str, list[str]]): for each split, the paths relative to
            the folders, without suffix.
        num_unused_masks (int): number of masks without an image.
    """

    images: Path
    masks: Path
    img_suffix: str
    seg_map_suffix: str
    names: dict[str, list[str]]
    num_unused_masks: int = 0

    def __iter__(self) -> Iterator[tuple[str, Path, Path]]:
        """Yields name, image path and mask path of each pair."""
        for names in self.names.values():
            for name in names:
                yield (
                    name,
                    self.images / f'{name}{self.img_suffix}',
                    self.masks / f'{name}{self.seg_map_suffix}',
                )

    def median_size(self) -> tuple[int, int]:
        """Returns the median height and width of the first 50 images."""
        sizes = []
        for _, (_, path, _) in zip(range(50), self, strict=False):
            with Image.open(path) as image:
                sizes.append(image.size)
        width, height = np.median(sizes, axis=0)
        return int(height), int(width)


def find_pairs(
    images: Path, masks: Path, val_share: float = 0.2, seed: int = 0
) -> ImagePairs:
    """Finds the mask of each image and assigns the pairs to splits.

    The name of a mask is that of its image plus a common suffix: ``a.jpg``
    and ``a_mask.png`` are a pair. If the folder of the images has folders
    ``train`` and ``val``, they are the splits, and all others are ignored.

    Both folders are searched recursively.

    Raises:
        ValueError: if there are no images, if they have several suffixes,
            or if an image has no mask or several masks.
    """
    image_names, mask_names = _list_images(images), _list_images(masks)
    folders = {x.split('/')[0] for x in image_names}
    has_splits = {'train', 'val'} <= folders
    if has_splits:
        image_names = [
            x for x in image_names if x.split('/')[0] in ('train', 'val')
        ]
    suffixes = sorted({Path(x).suffix for x in image_names})
    if len(suffixes) > 1:
        raise ValueError(
            f'the images in {images} have the suffixes {suffixes}, but mmseg '
            'reads only one: convert some, or use a folder with one suffix'
        )
    stems = [x.removesuffix(suffixes[0]) for x in image_names]
    seg_map_suffix = _find_mask_suffix(stems, set(mask_names), images, masks)
    if has_splits:
        val = {x for x in stems if x.startswith('val/')}
    else:
        val = _choose(stems, val_share, seed)
    names = {
        'train': [x for x in stems if x not in val],
        'val': [x for x in stems if x in val],
    }
    used = {stem + seg_map_suffix for stem in stems}
    unused = sum(
        x.endswith(seg_map_suffix) and x not in used for x in mask_names
    )
    return ImagePairs(
        images, masks, suffixes[0], seg_map_suffix, names, unused
    )


def _list_images(folder: Path) -> list[str]:
    """Returns the paths of all images relative to a folder, sorted."""
    if not folder.is_dir():
        raise ValueError(f'{folder} is not a folder')
    found = scan_files(folder, IMAGES)
    if not found:
        raise ValueError(
            f'{folder} contains no images with the suffixes {IMAGES}'
        )
    return [x.as_posix() for x in found]


def _find_mask_suffix(
    stems: Sequence[str], mask_names: set[str], images: Path, masks: Path
) -> str:
    """Returns the suffix that turns the stem of every image into a mask."""
    first = stems[0]
    suffixes = [
        x.removeprefix(first) for x in mask_names if x.startswith(first)
    ]
    # a_1_mask.png is not a mask of a.png if b.png has b_mask.png
    suffixes = sorted(
        x for x in suffixes if '/' not in x and not x[:1].isalnum()
    )
    missing = {
        suffix: [stem for stem in stems if stem + suffix not in mask_names]
        for suffix in suffixes or ['.png']
    }
    complete = [suffix for suffix in suffixes if not missing[suffix]]
    if len(complete) == 1:
        return complete[0]
    if complete:
        raise ValueError(
            f'{images / first} has {len(complete)} masks in {masks}, with the '
            f'suffixes {complete}: use a folder with one mask per image'
        )
    suffix = min(missing, key=lambda x: len(missing[x]))
    stem = missing[suffix][0]
    raise ValueError(
        f'the image {images / stem} has no mask: expected '
        f'{masks / (stem + suffix)}'
    )


def _choose(stems: Sequence[str], share: float, seed: int) -> set[str]:
    """Chooses the images of the validation split at random."""
    count = round(share * len(stems))
    if not 0 < count < len(stems):
        raise ValueError(
            f'a share of {share:g} of {len(stems)} images is {count}, but '
            'both splits need at least one: use another share, or folders '
            'train and val'
        )
    chosen = np.random.default_rng(seed).permutation(len(stems))[:count]
    return {stems[i] for i in chosen}
