"""Images from files, folders, glob patterns, arrays, videos and cameras.

Shapes:
    H, W: height and width of an image in pixels.
    C: number of channels of the network input, usually 3.
"""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from ..utils.image_files import IMAGES, scan_files
from .image_loader import ImageLoader

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')
WEBCAM = 'webcam'
DEFAULT_RATE, MAX_RATE = 25.0, 240.0  # frames per second
COLOR = ImageLoader()

Source = str | Path | np.ndarray | int
Sources = Source | Sequence[Source]


@dataclass(frozen=True)
class Frame:
    """One image.

    Attributes:
        name (str): Name of its results; for an image in a folder, its path
            in the folder without the suffix.
        image (np.ndarray): Shape (H, W, C), or (H, W) for C = 1; color is
            uint8 and BGR, unless the config loads another dtype.
        video (str | None): Name of its video.
        rate (float): Frames of the video per second.
    """

    name: str
    image: np.ndarray
    video: str | None = None
    rate: float = 0.0


def read_frames(
    sources: Sources,
    loader: ImageLoader = COLOR,
    exclude: Sequence[Path] = (),
) -> Iterator[Frame]:
    """Reads the images of all sources.

    Args:
        sources (Sources): Image or video file, folder, glob pattern such as
            ``'*.png'``, array of shape (H, W, C) or (H, W), in BGR for color,
            index of a camera or ``'webcam'``; or a list of these. Hidden
            files and folders in a folder are skipped.
        loader (ImageLoader): Decodes files and checks arrays; by default for
            color images.
        exclude (Sequence[Path]): Folders whose files are skipped in folders
            and patterns, such as those of earlier results.

    Yields:
        Frame: The next image. Repeated names get a number.

    Raises:
        FileNotFoundError: If a file does not exist, or if a folder or pattern
            contains no images.
        ValueError: If a file cannot be read, or an image has a wrong shape or
            another number of channels than the model.
        TypeError: If a source or the dtype of an array is not supported.
    """
    taken: set[str] = set()
    for name, item in _list_items(sources, loader, taken, exclude):
        if isinstance(item, np.ndarray):
            yield Frame(name, loader.check_array(item))
        elif isinstance(item, int) or item.suffix.lower() in VIDEOS:
            yield from _read_video(item, name, loader, taken)
        else:
            yield Frame(name, loader.load(item))


def count_frames(
    sources: Sources,
    loader: ImageLoader = COLOR,
    exclude: Sequence[Path] = (),
) -> int | None:
    """Returns the number of images; None if it is unknown.

    The arguments are those of :func:`read_frames`.
    """
    total = 0
    for _, item in _list_items(sources, loader, set(), exclude):
        if isinstance(item, int):  # a camera
            return None
        count = 1
        if isinstance(item, Path) and item.suffix.lower() in VIDEOS:
            video = _open_video(item)
            count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
            video.release()
            if count <= 0:
                return None
        total += count
    return total


def list_images(
    source: str | Path, suffixes: tuple[str, ...] = IMAGES
) -> list[Path]:
    """Returns the image files, without videos, of a source.

    Args:
        source (str | Path): File, folder or glob pattern.
        suffixes (tuple[str, ...]): Suffixes of images in folders.

    Raises:
        FileNotFoundError: If there is none.
    """
    return _list_files(source, suffixes)


def _list_items(
    sources: Sources,
    loader: ImageLoader,
    taken: set[str],
    exclude: Sequence[Path],
) -> Iterator[tuple[str, np.ndarray | int | Path]]:
    """Yields arrays, cameras and files with unique names of their results.

    Names in ``taken`` are not used, and the names are added to it.
    """
    if not isinstance(sources, (list, tuple)):
        sources = [cast(Source, sources)]
    for number, source in enumerate(sources):
        if isinstance(source, np.ndarray):
            yield _unique_name(f'array_{number:06d}', taken), source
        elif source == WEBCAM or type(source) is int:
            device = 0 if source == WEBCAM else source
            yield _unique_name(f'{WEBCAM}_{device}', taken), device
        elif isinstance(source, (str, Path)):
            folder = Path(source) if Path(source).is_dir() else None
            suffixes = loader.suffixes + VIDEOS
            for path in _list_files(source, suffixes, exclude):
                # results keep the subfolders of a folder
                place = path.relative_to(folder) if folder else Path(path.name)
                name = place.with_suffix('').as_posix()
                yield _unique_name(name, taken), path
        else:
            raise TypeError(
                f'{type(source).__name__} is not supported as a source: pass '
                'a path, a glob pattern, an array, the index of a camera, or '
                'a list of these'
            )


def _unique_name(name: str, taken: set[str]) -> str:
    """Returns the name, numbered if it is taken, and adds it to ``taken``."""
    free, count = name, 1
    while free in taken:
        count += 1
        free = f'{name}_{count}'
    taken.add(free)
    return free


def _list_files(
    source: str | Path,
    suffixes: tuple[str, ...],
    exclude: Sequence[Path] = (),
) -> list[Path]:
    path = Path(source)
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = [path / x for x in scan_files(path, suffixes)]
        found = _outside(found, exclude)
    elif glob.has_magic(str(source)):
        names = glob.glob(str(source), recursive=True)
        found = [Path(x) for x in names if x.lower().endswith(suffixes)]
        found = _outside(found, exclude)
    else:
        raise FileNotFoundError(f'there is no file or folder {source}')
    if not found:
        besides = ' besides earlier results' if exclude else ''
        raise FileNotFoundError(
            f'{source} contains no file that ends in {", ".join(suffixes)}'
            + besides
        )
    return sorted(found)


def _outside(paths: list[Path], folders: Sequence[Path]) -> list[Path]:
    """Returns the paths that are not in one of the folders."""
    excluded = [x.resolve() for x in folders]
    inside = {
        parent: any(parent.resolve().is_relative_to(x) for x in excluded)
        for parent in {x.parent for x in paths}
    }
    return [x for x in paths if not inside[x.parent]]


def _open_video(source: Path | int) -> cv2.VideoCapture:
    device = source if isinstance(source, int) else str(source)
    video = cv2.VideoCapture(device)
    if not video.isOpened():
        raise ValueError(f'{source} cannot be opened as a video or camera')
    return video


def _read_video(
    source: Path | int, name: str, loader: ImageLoader, taken: set[str]
) -> Iterator[Frame]:
    if loader.channels not in (1, 3):
        raise ValueError(
            f'{source}: videos have 3 channels, but the model takes '
            f'{loader.channels}; pass images or arrays'
        )
    video = _open_video(source)
    rate = video.get(cv2.CAP_PROP_FPS)
    if not 0 < rate <= MAX_RATE:  # missing or invalid in the file
        rate = DEFAULT_RATE
    number = 0
    try:
        while True:
            success, image = video.read()
            if not success:
                break
            if loader.channels == 1:
                image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            frame_name = _unique_name(f'{name}_{number:06d}', taken)
            yield Frame(frame_name, image, name, rate)
            number += 1
    finally:
        video.release()
    if not number:
        raise ValueError(f'{source} contains no readable frame')
