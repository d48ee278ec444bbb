"""Images from wherever users keep them, one after the other.

Shapes:
    H, W: height and width of an image in pixels.
"""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from ..datasets.decode_image import decode_image

IMAGE_SUFFIXES = (
    '.png',
    '.jpg',
    '.jpeg',
    '.bmp',
    '.tif',
    '.tiff',
    '.webp',
    '.ppm',
)
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')
WEBCAM = 'webcam'
USUAL_RATE, MAX_RATE = 25.0, 240.0

Source = str | Path | np.ndarray | int
Sources = Source | Sequence[Source]


@dataclass(frozen=True)
class Frame:
    """One image.

    Attributes:
        name (str): what results of it are called; of an image in a folder,
            its path there without the suffix.
        image (np.ndarray): uint8, shape (H, W, 3), BGR.
        video (str | None): name of the video that it is of.
        rate (float): frames of that video per second.
    """

    name: str
    image: np.ndarray
    video: str | None = None
    rate: float = 0.0


def read_frames(sources: Sources) -> Iterator[Frame]:
    """Returns the images of all sources.

    Args:
        sources (Sources): a file of an image or video, a folder, a pattern
            such as ``'*.png'``, an array (H, W, 3) in BGR or (H, W), the
            number of a camera or ``'webcam'``; or several of these.

    Yields:
        Frame: the next image; names are numbered where they would repeat.

    Raises:
        FileNotFoundError: if a file does not exist, or a folder or pattern
            has no image.
        ValueError: if a file cannot be read, or an array is no image.
        TypeError: if a source is none of the above.
    """
    taken: set[str] = set()
    for number, source in enumerate(_as_list(sources)):
        yield from _read_source(source, number, taken)


def count_frames(sources: Sources) -> int | None:
    """Returns how many images there are; None if nobody can know."""
    total = 0
    for source in _as_list(sources):
        if isinstance(source, np.ndarray):
            total += 1
        elif _is_camera(source):
            return None
        elif isinstance(source, (str, Path)):
            for path in _list_files(source):
                if path.suffix.lower() not in VIDEOS:
                    total += 1
                    continue
                video = _open_video(str(path))
                frames = video.get(cv2.CAP_PROP_FRAME_COUNT)
                video.release()
                if frames <= 0:
                    return None
                total += int(frames)
    return total


def _as_list(sources: Sources) -> list[Source]:
    if isinstance(sources, (list, tuple)):
        return list(sources)
    return [cast(Source, sources)]


def _read_source(
    source: Source, number: int, taken: set[str]
) -> Iterator[Frame]:
    if isinstance(source, np.ndarray):
        name = _unique_name(f'array_{number:06d}', taken)
        yield Frame(name, _check_array(source))
    elif _is_camera(source):
        device = 0 if source == WEBCAM else int(source)  # type: ignore
        name = _unique_name(f'{WEBCAM}_{device}', taken)
        yield from _read_video(device, name)
    elif isinstance(source, (str, Path)):
        folder = Path(source) if Path(source).is_dir() else None
        for path in _list_files(source):
            # images of a folder keep their place in it
            place = path.relative_to(folder) if folder else Path(path.name)
            name = _unique_name(place.with_suffix('').as_posix(), taken)
            if path.suffix.lower() in VIDEOS:
                yield from _read_video(str(path), name)
            else:
                yield Frame(name, decode_image(path.read_bytes(), str(path)))
    else:
        raise TypeError(
            f'{type(source).__name__} is no source: give a path, a pattern, '
            'an array, the number of a camera, or a list of these'
        )


def _unique_name(name: str, taken: set[str]) -> str:
    """Returns the name, with a number where it is taken, and takes it."""
    free, count = name, 1
    while free in taken:
        count += 1
        free = f'{name}_{count}'
    taken.add(free)
    return free


def _is_camera(source: Source) -> bool:
    return source == WEBCAM or (
        isinstance(source, int) and not isinstance(source, bool)
    )


def _check_array(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        raise ValueError(
            f'an array of {image.dtype} is no image: give uint8, 0 to 255'
        )
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, -1)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f'an array of shape {image.shape} is no image: give '
            '(H, W, 3), BGR, or (H, W)'
        )
    return image


def _list_files(source: str | Path) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = list(path.rglob('*'))
    elif glob.has_magic(str(source)):
        found = [Path(x) for x in glob.glob(str(source), recursive=True)]
    else:
        raise FileNotFoundError(f'there is no file or folder {source}')
    kinds = IMAGE_SUFFIXES + VIDEOS
    found = [
        x
        for x in found
        if x.suffix.lower() in kinds
        and not x.name.startswith('.')
        and x.is_file()
    ]
    if not found:
        raise FileNotFoundError(
            f'{source} has no image or video: they end in {", ".join(kinds)}'
        )
    return sorted(found)


def list_images(source: str | Path) -> list[Path]:
    """Returns the files of images, not of videos, that a source names.

    Args:
        source (str | Path): a file, folder or pattern.

    Raises:
        FileNotFoundError: if there is none.
    """
    found = [
        x for x in _list_files(source) if x.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not found:
        raise FileNotFoundError(
            f'{source} is no image and has none: they end in '
            f'{", ".join(IMAGE_SUFFIXES)}'
        )
    return found


def _open_video(source: str | int) -> cv2.VideoCapture:
    video = cv2.VideoCapture(source)
    if not video.isOpened():
        raise ValueError(f'{source} cannot be opened as a video or camera')
    return video


def _read_video(source: str | int, name: str) -> Iterator[Frame]:
    video = _open_video(source)
    rate = video.get(cv2.CAP_PROP_FPS)
    if not 0 < rate <= MAX_RATE:  # what a file may claim
        rate = USUAL_RATE
    try:
        number = 0
        while True:
            good, image = video.read()
            if not good:
                break
            yield Frame(f'{name}_{number:06d}', image, name, rate)
            number += 1
    finally:
        video.release()
    if not number:
        raise ValueError(f'{source} holds no frame that can be read')
