"""A training config for a folder of images and a folder of masks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from .config_template import MODELS, format_config
from .image_pairs import ImagePairs, find_pairs

IGNORED = 255


def create_dataset(
    images: Path,
    masks: Path,
    config: Path,
    out: Path,
    classes: Sequence[str],
    val_share: float = 0.2,
    seed: int = 0,
    remap: Mapping[int, int] | None = None,
    colors: Sequence[tuple[int, ...]] | None = None,
    model: str = 'r50',
    iterations: int = 20000,
    batch_size: int = 8,
) -> ImagePairs:
    """Writes a config, the lists of its splits, and masks where needed.

    Args:
        images (Path): folder of the images, searched recursively.
        masks (Path): folder of the masks, searched recursively.
        config (Path): config file to write.
        out (Path): folder for ``splits/`` and converted ``masks/``.
        classes (Sequence[str]): class names in the order of their indices.
        val_share (float): share of the validation images, unless ``images``
            has folders ``train`` and ``val``.
        seed (int): seed of the random choice of validation images.
        remap (Mapping[int, int], optional): new label of each label in the
            masks that changes.
        colors (Sequence, optional): color (R, G, B) of each class in
            colored masks.
        model (str): one of ``config_template.MODELS``.
        iterations (int): number of training iterations.
        batch_size (int): batch size per GPU.

    Returns:
        ImagePairs: images, with the masks that the config reads.

    Raises:
        ValueError: if a file exists, if images and masks do not match, if
            the masks contain labels that are not classes, or if another
            argument is invalid.
    """
    remap = remap or {}
    if model not in MODELS:
        raise ValueError(f'model must be one of {MODELS}, got {model!r}')
    if config.suffix != '.py':
        raise ValueError(f'the config {config} must end in .py')
    for path in (config, out / 'splits'):
        if path.exists():
            raise ValueError(
                f'{path} already exists: delete it, or use another name '
                '(--out for the data)'
            )
    if (remap or colors) and (out / 'masks').exists():
        raise ValueError(
            f'{out / "masks"}, the folder for converted masks, already '
            'exists: choose another --out'
        )
    if len(classes) < 2:
        raise ValueError(
            f'at least two classes are required, got {list(classes)}: name '
            'the background as well'
        )
    if len(set(classes)) < len(classes):
        raise ValueError(f'the class names {list(classes)} are not unique')
    if len(classes) > IGNORED:
        raise ValueError(
            f'got {len(classes)} classes, but at most {IGNORED} are '
            'supported: see "More than 255 classes" in docs/data_check.md'
        )
    if min(iterations, batch_size) < 1:
        raise ValueError(
            'iterations and batch_size must be positive, got '
            f'{iterations} and {batch_size}'
        )
    if colors is not None and len(colors) != len(classes):
        raise ValueError(
            f'got {len(colors)} --colors for {len(classes)} classes'
        )
    pairs = find_pairs(images, masks, val_share, seed)
    if colors is None:
        _check_labels(_find_labels(pairs), remap, len(classes))
    if remap or colors:
        by_color = {x: label for label, x in enumerate(colors or ())}
        _convert_masks(pairs, out / 'masks', remap, by_color)
        pairs = replace(pairs, masks=out / 'masks', seg_map_suffix='.png')
    for split, names in pairs.names.items():
        path = out / 'splits' / f'{split}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(names) + '\n', 'utf-8')
    text = format_config(
        config.stem, pairs, classes, out, model, iterations, batch_size
    )
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(text, 'utf-8')
    return pairs


def _check_labels(
    files: Mapping[int, Path], remap: Mapping[int, int], num_classes: int
) -> None:
    """Raises ValueError if a label is not a class, or none is.

    ``files`` has a mask for each label.
    """
    files = {remap.get(label, label): path for label, path in files.items()}
    labels = set(files)
    unknown = sorted(labels - {IGNORED} - set(range(num_classes)))
    if unknown:
        raise ValueError(
            f'there are {num_classes} --classes, but the masks contain the '
            f'labels {unknown}, for example {files[unknown[0]]}: name all '
            'classes, or --remap labels. JPEG files change labels'
        )
    if IGNORED in labels and labels <= {0, IGNORED}:
        raise ValueError(
            f'the masks contain only the labels {sorted(labels)}, and '
            f'{IGNORED} is ignored: if it is a class, use --remap 255=1'
        )


def _find_labels(pairs: ImagePairs) -> dict[int, Path]:
    """Returns the first mask of each label.

    Raises:
        ValueError: if a mask has several channels.
    """
    files: dict[int, Path] = {}
    for _, _, path in pairs:
        with Image.open(path) as image:
            mask = np.asarray(image)
        if mask.ndim == 3:
            raise ValueError(
                f'{path} has {mask.shape[2]} channels: give the color of each '
                'class with --colors, or convert it to one channel'
            )
        for label in np.unique(mask.astype(np.int64)).tolist():
            files.setdefault(label, path)
    return files


def _convert_masks(
    pairs: ImagePairs,
    folder: Path,
    remap: Mapping[int, int],
    colors: Mapping[tuple[int, ...], int],
) -> None:
    """Writes masks of class indices, one channel, 8 bits, as PNG files.

    Colors that are not in ``colors`` become 255.
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
    """Returns the class of each pixel of a colored mask, shape (H, W, 3)."""
    mask = np.full(image.shape[:2], IGNORED, np.int64)
    for color, label in colors.items():
        mask[(image == np.array(color)).all(-1)] = label
    return mask
