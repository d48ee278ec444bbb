"""From folders of images and masks to a data set that mmseg can read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
SPLITS = ('train', 'val')
IGNORED = 255


@dataclass(frozen=True)
class Pairing:
    """Images with their masks.

    Attributes:
        images (Path): folder of the images.
        masks (Path): folder of the masks.
        img_suffix (str): end of the name of every image.
        seg_map_suffix (str): end of the name of every mask.
        names (dict[str, list[str]]): of each split, paths below the folders
            without the suffixes.
    """

    images: Path
    masks: Path
    img_suffix: str
    seg_map_suffix: str
    names: dict[str, list[str]]

    def pairs(self) -> Iterator[tuple[Path, Path]]:
        """Returns all images with their masks."""
        for names in self.names.values():
            for name in names:
                yield (
                    self.images / f'{name}{self.img_suffix}',
                    self.masks / f'{name}{self.seg_map_suffix}',
                )


def pair_files(
    images: Path, masks: Path, share: float = 0.2, seed: int = 0
) -> Pairing:
    """Finds the mask of every image, and the splits.

    A mask has the name of its image, with anything behind it:
    ``a.jpg`` and ``a_mask.png`` are a pair. Where both folders have the
    folders ``train`` and ``val``, these are the splits.

    Args:
        images (Path): folder of the images, searched in depth.
        masks (Path): folder of the masks, likewise.
        share (float): of the images that go to ``val`` where there are no
            such folders.
        seed (int): of that choice.

    Raises:
        ValueError: if there are no images, if they have several suffixes,
            or if one has no mask or several.
    """
    image_files, labels = _list(images), _list(masks)
    tops = {x.relative_to(images).parts[0] for x in image_files}
    if set(SPLITS) <= tops:  # others, such as test, may be without masks
        image_files = [
            x for x in image_files if x.relative_to(images).parts[0] in SPLITS
        ]
    img_suffix = _common_suffix(images, [x.suffix for x in image_files])
    stems = [_stem(x, images, img_suffix) for x in image_files]
    seg_map_suffix = _mask_suffix(images, masks, img_suffix, stems, labels)
    return Pairing(
        images,
        masks,
        img_suffix,
        seg_map_suffix,
        _split(stems, share, seed),
    )


def _mask_suffix(
    images: Path,
    masks: Path,
    img_suffix: str,
    stems: Sequence[str],
    labels: Sequence[Path],
) -> str:
    """Returns the end that makes a mask's name of every image's."""
    known = {x.relative_to(masks).as_posix() for x in labels}
    first = stems[0]
    ends = [x[len(first) :] for x in sorted(known) if x.startswith(first)]
    ends = [x for x in ends if '/' not in x and not x[:1].isalnum()]
    # the end of all other images, too: a_1_mask.png is none of a
    good = [x for x in ends if all(stem + x in known for stem in stems)]
    if len(good) == 1:
        return good[0]
    if len(good) > 1:
        raise ValueError(
            f'{images / (first + img_suffix)} has {len(good)} masks in '
            f'{masks}, which end in {good}: give a folder with one kind'
        )
    for end in ends or ['.png']:
        lost = [stem for stem in stems if stem + end not in known]
        if len(lost) < len(stems) or not ends:
            raise ValueError(
                f'{images / (lost[0] + img_suffix)} has no mask: it should '
                f'be {masks / (lost[0] + end)}'
            )
    raise ValueError(
        f'{images / (first + img_suffix)} has no mask in {masks}: it has to '
        f'be called {Path(first).name}*, such as {Path(first).name}.png'
    )


def _list(folder: Path) -> list[Path]:
    found = sorted(
        x
        for x in folder.rglob('*')
        if x.suffix.lower() in IMAGE_SUFFIXES and not x.name.startswith('.')
    )
    if not found:
        raise ValueError(f'{folder} holds no image of {IMAGE_SUFFIXES}')
    return found


def _stem(path: Path, folder: Path, suffix: str) -> str:
    return path.relative_to(folder).as_posix().removesuffix(suffix)


def _common_suffix(folder: Path, suffixes: Sequence[str]) -> str:
    kinds = sorted(set(suffixes))
    if len(kinds) > 1:
        raise ValueError(
            f'the names in {folder} end in {kinds}, and mmseg wants one end: '
            'convert some, or give a folder with one kind'
        )
    return kinds[0]


def _split(
    stems: Sequence[str], share: float, seed: int
) -> dict[str, list[str]]:
    tops = {Path(x).parts[0] for x in stems}
    if set(SPLITS) <= tops:
        return {
            split: [x for x in stems if Path(x).parts[0] == split]
            for split in SPLITS
        }
    count = round(share * len(stems))
    if not 0 < count < len(stems):
        raise ValueError(
            f'{share:g} of {len(stems)} images are {count}: both splits '
            'need some, give another share or folders train and val'
        )
    chosen = np.random.default_rng(seed).permutation(len(stems))[:count]
    val = {stems[i] for i in chosen}
    return {
        'train': [x for x in stems if x not in val],
        'val': [x for x in stems if x in val],
    }


def find_labels(pairing: Pairing) -> tuple[list[int], bool]:
    """Returns the labels that occur, and whether masks hold colours."""
    values: set[int] = set()
    for _, path in pairing.pairs():
        with Image.open(path) as image:
            mask = np.asarray(image)
        if mask.ndim == 3:
            return [], True
        values.update(np.unique(mask.astype(np.int64)).tolist())
    return sorted(values), False


def convert_masks(
    pairing: Pairing,
    target: Path,
    remap: Mapping[int, int] | None = None,
    colours: Mapping[tuple[int, int, int], int] | None = None,
) -> Iterator[int]:
    """Writes masks of class numbers, one channel, 8 bits.

    Args:
        pairing (Pairing): whose masks are read.
        target (Path): folder of the new ones, as PNG.
        remap (Mapping[int, int], optional): labels that change.
        colours (Mapping, optional): the class of each colour, RGB; other
            colours are ignored.

    Yields:
        int: number of masks written.

    Raises:
        ValueError: if a new label does not fit into 8 bits.
    """
    for done, (name, (_, path)) in enumerate(
        zip(
            (x for names in pairing.names.values() for x in names),
            pairing.pairs(),
            strict=True,
        ),
        1,
    ):
        with Image.open(path) as image:
            if colours:
                mask = _from_colours(np.asarray(image.convert('RGB')), colours)
            else:
                mask = np.asarray(image).astype(np.int64)
        old = mask.copy()
        for before, after in (remap or {}).items():
            mask[old == before] = after
        if mask.min() < 0 or mask.max() > IGNORED:
            raise ValueError(
                f'{path} would hold {mask.max()}, and masks have 8 bits: '
                f'give --remap {mask.max()}=LABEL'
            )
        file = target / f'{name}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8)).save(file)
        yield done


def _from_colours(
    image: np.ndarray, colours: Mapping[tuple[int, int, int], int]
) -> np.ndarray:
    """Returns the class of each pixel, (H, W), from (H, W, 3)."""
    mask = np.full(image.shape[:2], IGNORED, np.int64)
    for colour, label in colours.items():
        mask[(image == np.array(colour)).all(-1)] = label
    return mask


def median_size(pairing: Pairing, sample: int = 50) -> tuple[int, int]:
    """Returns the median height and width of some images."""
    sizes = []
    for number, (path, _) in enumerate(pairing.pairs()):
        if number >= sample:
            break
        with Image.open(path) as image:
            sizes.append(image.size)
    width, height = np.median(sizes, axis=0)
    return int(height), int(width)
