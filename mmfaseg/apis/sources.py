"""Pictures from wherever users keep them, one after the other.

Shapes:
    H, W: height and width of a picture in pixels.
"""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import mmcv
import numpy as np

PICTURES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')
WEBCAM = 'webcam'

Source = str | Path | np.ndarray | int
Sources = Source | Sequence[Source]


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        name (str): what results of it are called.
        picture (np.ndarray): uint8, shape (H, W, 3), BGR.
        video (str | None): name of the video that it is of.
        rate (float): frames of that video per second.
    """

    name: str
    picture: np.ndarray
    video: str | None = None
    rate: float = 0.0


def read_frames(sources: Sources) -> Iterator[Frame]:
    """Returns the pictures of all sources.

    Args:
        sources (Sources): a file of a picture or video, a folder, a pattern
            such as ``'*.png'``, an array (H, W, 3) in BGR or (H, W), the
            number of a camera or ``'webcam'``; or several of these.

    Yields:
        Frame: the next picture; names are numbered where they would repeat.

    Raises:
        FileNotFoundError: if a file does not exist, or a folder or pattern
            has no picture.
        ValueError: if a file cannot be read, or an array is no picture.
        TypeError: if a source is none of the above.
    """
    taken: dict[str, int] = {}
    for number, source in enumerate(_as_list(sources)):
        for frame in _read_source(source, number):
            count = taken[frame.name] = taken.get(frame.name, 0) + 1
            if count == 1:
                yield frame
            else:
                yield Frame(
                    f'{frame.name}_{count}',
                    frame.picture,
                    frame.video,
                    frame.rate,
                )


def count_frames(sources: Sources) -> int | None:
    """Returns how many pictures there are; None if nobody can know."""
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
                frames = _open_video(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)
                if frames <= 0:
                    return None
                total += int(frames)
    return total


def _as_list(sources: Sources) -> list[Source]:
    if isinstance(sources, (list, tuple)):
        return list(sources)
    return [cast(Source, sources)]


def _read_source(source: Source, number: int) -> Iterator[Frame]:
    if isinstance(source, np.ndarray):
        yield Frame(f'array_{number:06d}', _check_array(source))
    elif _is_camera(source):
        device = 0 if source == WEBCAM else int(source)  # type: ignore
        yield from _read_video(device, WEBCAM)
    elif isinstance(source, (str, Path)):
        for path in _list_files(source):
            if path.suffix.lower() in VIDEOS:
                yield from _read_video(str(path), path.stem)
            else:
                yield Frame(path.stem, _read_picture(path))
    else:
        raise TypeError(
            f'{type(source).__name__} is no source: give a path, a pattern, '
            'an array, the number of a camera, or a list of these'
        )


def _is_camera(source: Source) -> bool:
    return source == WEBCAM or (
        isinstance(source, int) and not isinstance(source, bool)
    )


def _check_array(picture: np.ndarray) -> np.ndarray:
    if picture.dtype != np.uint8:
        raise ValueError(
            f'an array of {picture.dtype} is no picture: give uint8, 0 to 255'
        )
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, -1)
    if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ValueError(
            f'an array of shape {picture.shape} is no picture: give '
            '(H, W, 3), BGR, or (H, W)'
        )
    return picture


def _list_files(source: str | Path) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [x for x in path.rglob('*') if x.suffix.lower() in PICTURES]
    elif glob.has_magic(str(source)):
        found = [
            Path(x)
            for x in glob.glob(str(source), recursive=True)
            if Path(x).suffix.lower() in PICTURES + VIDEOS
        ]
    else:
        raise FileNotFoundError(f'there is no file or folder {source}')
    if not found:
        raise FileNotFoundError(
            f'{source} has no picture: they end in {", ".join(PICTURES)}'
        )
    return sorted(found)


def _read_picture(path: Path) -> np.ndarray:
    """Reads any kind of picture as colours of 8 bits, turned as it says."""
    picture = mmcv.imfrombytes(path.read_bytes(), flag='color')
    if picture is None:
        raise ValueError(
            f'{path} cannot be read as a picture: it is damaged, or of an '
            'unknown kind'
        )
    return picture


def _open_video(source: str | int) -> cv2.VideoCapture:
    video = cv2.VideoCapture(source)
    if not video.isOpened():
        raise ValueError(f'{source} cannot be opened as a video or camera')
    return video


def _read_video(source: str | int, name: str) -> Iterator[Frame]:
    video = _open_video(source)
    rate = video.get(cv2.CAP_PROP_FPS) or 25.0
    try:
        number = 0
        while True:
            good, picture = video.read()
            if not good:
                break
            yield Frame(f'{name}_{number:06d}', picture, name, rate)
            number += 1
    finally:
        video.release()
    if not number:
        raise ValueError(f'{source} holds no frame that can be read')
