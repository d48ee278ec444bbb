"""Predictions and their output files.

Shapes: H x W the image, K classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..utils.label_png import write_label_png
from .sources import Frame


def result_folders(out_dir: str | Path) -> list[Path]:
    """Returns the folders of the files that :class:`Writer` writes."""
    names = ('labels', 'overlay', 'probabilities', 'focus')
    return [Path(out_dir) / x for x in names]


@dataclass(frozen=True)
class Prediction:
    """Prediction for one image.

    Attributes:
        name (str): Name of the image.
        labels (np.ndarray): Class of each pixel, int64, shape (H, W).
        overlay (np.ndarray | None): Image with the colors of the classes,
            uint8, shape (H, W, 3), RGB; if requested.
        probabilities (np.ndarray | None): Class probabilities, float32, shape
            (K, H, W), sum to 1; if requested. With mask classification, these
            are normalized scores, which are not calibrated.
        focus (Figure | None): Where the queries attend; if requested.
    """

    name: str
    labels: np.ndarray
    overlay: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    focus: Any = None


class Writer:
    """Writes predictions to a folder.

    Args:
        out_dir (str | Path): The folder.
        palette (list): One color per class, RGB.
    """

    def __init__(self, out_dir: str | Path, palette: list) -> None:
        self.out_dir = Path(out_dir)
        self.palette = np.asarray(palette, np.uint8)
        self._videos: dict[str, cv2.VideoWriter] = {}

    def write(self, frame: Frame, found: Prediction) -> None:
        """Writes all parts of a prediction."""
        from ..visualization import save_figure

        path = self._path('labels', found.name, '.png')
        write_label_png(path, found.labels, len(self.palette), self.palette)
        if found.overlay is not None:
            if frame.video is None:
                path = self._path('overlay', found.name, '.png')
                Image.fromarray(found.overlay).save(path)
            else:
                self._write_frame(frame.video, frame.rate, found.overlay)
        if found.probabilities is not None:
            np.savez_compressed(
                self._path('probabilities', found.name, '.npz'),
                probabilities=found.probabilities.astype(np.float16),
            )
        if found.focus is not None:
            save_figure(found.focus, self._path('focus', found.name, '.png'))

    def close(self) -> None:
        """Closes the video files."""
        for video in self._videos.values():
            video.release()
        self._videos.clear()

    def _path(self, folder: str, name: str, suffix: str) -> Path:
        path = self.out_dir / folder / f'{name}{suffix}'
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write_frame(
        self, name: str, rate: float, overlay: np.ndarray
    ) -> None:
        if name not in self._videos:
            path = self._path('overlay', name, '.mp4')
            size = overlay.shape[1], overlay.shape[0]
            fourcc = cv2.VideoWriter.fourcc(*'mp4v')
            video = cv2.VideoWriter(str(path), fourcc, rate, size)
            if not video.isOpened():
                raise ValueError(f'{path} cannot be written as a video')
            self._videos[name] = video
        self._videos[name].write(overlay[..., ::-1].copy())
