"""Canvas for the images of ``ShapesDataset``.

The colors of all classes have the same distribution: only texture, shape and
context distinguish the classes.

Shapes:
    H, W: height and width of the image in pixels.
    P: number of corners of an outline. Points are complex numbers, x + iy in
        pixels, so that rotating and scaling them are products.
"""

from functools import lru_cache

import cv2
import numpy as np

CLASSES = (
    'ground',
    'stripes',
    'checker',
    'disc',
    'cross',
    'pole',
    'wire',
)
GROUND, STRIPES, CHECKER, DISC, CROSS, POLE, WIRE = range(len(CLASSES))

# Lengths are in pixels of a 128 x 128 image and scale with the image, except
# the width of lines.
_REFERENCE_SIZE = 128
_MAX_INSTANCES = 32
_CANDIDATES = 6
_NOISE_LEVELS = 16
_SUBPIXEL_BITS = 4


@lru_cache(maxsize=32)
def pixel_grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns row and column indices, float32, shapes (H, 1) and (1, W)."""
    ys = np.arange(height, dtype=np.float32)[:, None]
    xs = np.arange(width, dtype=np.float32)[None, :]
    return ys, xs


class ShapesCanvas:
    """An image and its labels while they are drawn.

    Areas are stored as a map of area numbers and a texture map. Area n has
    the colors ``colors[n] + texture * tints[n]``, so that each pixel is
    colored once, however many areas overlap. Lines are drawn on the colored
    image, after the last area.

    Attributes:
        labels (np.ndarray): class of each pixel, uint8, shape (H, W).
        areas (np.ndarray): area number of each pixel, from 1; 0 on the
            ground and on lines; uint8, shape (H, W).
    """

    def __init__(
        self, rng: np.random.Generator, height: int, width: int
    ) -> None:
        self.rng = rng
        self.height = height
        self.width = width
        self.unit = float(np.sqrt(height * width)) / _REFERENCE_SIZE
        self.labels = np.full((height, width), GROUND, np.uint8)
        self.areas = np.zeros((height, width), np.uint8)
        cells = rng.random((6, 6), dtype=np.float32) * 3 - 1.5
        self._texture = cv2.resize(
            cells, (width, height), interpolation=cv2.INTER_CUBIC
        )
        self._candidates = _random_colors(rng, (_MAX_INSTANCES, _CANDIDATES))
        self._tints = _random_tints(rng, _MAX_INSTANCES)
        self._colors = self._candidates[:, 0].copy()
        self._count = 1  # the ground
        self._image: np.ndarray | None = None

    def fill(self, label: int, outline: np.ndarray) -> None:
        """Fills an outline, shape (P,), with a new area of a class.

        The outline may extend beyond the image.
        """
        points = np.ascontiguousarray(outline).view(float).reshape(-1, 2)
        left, top = np.maximum(points.min(axis=0), 0).astype(int)
        right, bottom = points.max(axis=0).astype(int) + 2
        box = slice(top, bottom), slice(left, right)
        instances = self.areas[box]
        mask = np.zeros(instances.shape, np.uint8)
        corners = (points - (left, top)) * (1 << _SUBPIXEL_BITS) + 0.5
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1, 8, _SUBPIXEL_BITS)
        inside = mask.view(bool)
        covered = np.bincount(instances[inside]).nonzero()[0]
        color = self._contrasting_color(self._colors[covered])
        instances[inside] = self._count
        self.labels[box][inside] = label
        texture = self._draw_texture(label, mask)
        np.copyto(self._texture[box], texture, where=inside)
        self._colors[self._count] = color
        self._count += 1

    def draw_pole(
        self, x: float, top: float, bottom: float, reach: float
    ) -> None:
        """Draws a straight line from (x, top) to (x + reach, bottom)."""
        half = self._random_half_width()
        low = max(int(min(x, x + reach) - half - 1), 0)
        high = int(max(x, x + reach) + half + 2)
        ys, xs = pixel_grid(self.height, self.width)
        lean = np.float32(reach / (bottom - top))
        across = np.abs(xs[:, low:high] - lean * ys - (x - lean * top))
        across[: int(top)] = np.inf
        across[int(bottom) + 1 :] = np.inf
        self._draw_line(POLE, half, across, (slice(None), slice(low, high)))

    def draw_wire(self, curve: np.ndarray) -> None:
        """Draws a line through a row coordinate per column, shape (W,)."""
        half = self._random_half_width()
        slope = np.gradient(curve)
        stretch = np.sqrt(1 + slope**2).astype(np.float32)
        margin = (half + 1) * stretch.max()
        low = max(int(curve.min() - margin), 0)
        high = int(curve.max() + margin) + 1
        ys, _ = pixel_grid(self.height, self.width)
        distance = np.abs(ys[low:high] - curve.astype(np.float32)) / stretch
        self._draw_line(WIRE, half, distance, (slice(low, high), slice(None)))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Adds noise and returns image (H, W, 3) and labels (H, W), uint8."""
        image = self._colored()
        image += self.rng.integers(0, _NOISE_LEVELS, image.shape, np.uint8)
        np.clip(image, 0, 255, out=image)
        return image.astype(np.uint8), self.labels

    def _colored(self) -> np.ndarray:
        """Returns the image without noise, float32, shape (H, W, 3)."""
        if self._image is None:
            image = self._tints.take(self.areas, axis=0)
            image *= self._texture[..., None]
            image += self._colors.take(self.areas, axis=0)
            self._image = cv2.GaussianBlur(image, (3, 3), 0.6)
        return self._image

    def _draw_texture(self, label: int, like: np.ndarray) -> np.ndarray:
        """Returns waves for a region, or linear shading for an object."""
        height, width = like.shape
        ys, xs = pixel_grid(height, width)
        angle, phase, other_phase = 2 * np.pi * self.rng.random(3)
        if label not in (STRIPES, CHECKER):
            turn = 0.03 / self.unit * np.exp(1j * angle)
            cos, sin = np.float32(turn.real), np.float32(turn.imag)
            return (xs - width / 2) * cos + (ys - height / 2) * sin
        period = self.rng.uniform(8, 12) * np.sqrt(self.unit)
        turn = 2 * np.pi / period * np.exp(1j * angle)
        cos, sin = np.float32(turn.real), np.float32(turn.imag)
        wave = np.sin(cos * xs + (sin * ys + np.float32(phase)))
        if label == CHECKER:
            wave *= np.sin(cos * ys - (sin * xs - np.float32(other_phase)))
        return np.clip(3 * wave, -1, 1)

    def _random_half_width(self) -> float:
        """Draws half of a line width of 1, 2 or 3 pixels, mostly 3."""
        draw = self.rng.random()
        return 0.5 if draw < 0.06 else 1.0 if draw < 0.25 else 1.5

    def _draw_line(
        self,
        label: int,
        half_width: float,
        distance: np.ndarray,
        box: tuple[slice, slice],
    ) -> None:
        """Draws a line with antialiased edges.

        ``distance`` is that of each pixel of the box to the center line.
        """
        image, labels = self._colored()[box], self.labels[box]
        rows, columns = np.nonzero(distance < half_width + 0.5)
        if not len(rows):
            return
        cover = np.minimum(half_width + 0.5 - distance[rows, columns], 1)
        under = image[rows, columns]
        samples = under[:: max(len(under) // 16, 1)]
        color = self._contrasting_color(samples)
        image[rows, columns] = under + cover[:, None] * (color - under)
        inside = cover > 0.5
        labels[rows[inside], columns[inside]] = label
        self.areas[box][rows[inside], columns[inside]] = 0
        self._count += 1

    def _contrasting_color(self, under: np.ndarray) -> np.ndarray:
        """Returns the candidate that differs most from the colors below it.

        ``under`` has shape (M, 3), and the result (3,).
        """
        candidates = self._candidates[self._count]
        gaps = np.abs(candidates[:, None] - under).sum(axis=2)
        return candidates[gaps.min(axis=1).argmax()]


def _random_colors(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray:
    """Draws colors (*shape, 3) from the distribution of all classes."""
    colors = rng.random((*shape, 3), dtype=np.float32)
    gray = colors.mean(axis=-1, keepdims=True)
    return 25 + 190 * (gray + 0.8 * (colors - gray))


def _random_tints(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws the color amplitudes of textures, shape (count, 3)."""
    draws = rng.random((count, 4), dtype=np.float32)
    return (36 + 24 * draws[:, 3:]) * (0.4 + 1.2 * draws[:, :3])
