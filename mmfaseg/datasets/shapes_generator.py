"""Generator of the images of ``ShapesDataset``.

An image has a ground of smooth noise with large striped and checkered
regions, discs and crosses on top of them, and poles connected by wires.

Shapes:
    H, W: height and width of the image in pixels.
    P: number of corners of an outline. Points are complex numbers, x + iy in
        pixels, so that rotating and scaling them are products.
"""

import numpy as np

from .shapes_canvas import CHECKER, CROSS, DISC, STRIPES, ShapesCanvas

SPLITS = ('train', 'val', 'test')
MIN_SIZE = 32
MAX_RATIO = 28  # of the sides, up to which all objects fit into the image

_CIRCLE = np.exp(2j * np.pi * np.arange(32) / 32)
_ARM = 0.36  # half the width of an arm of a cross, relative to its length
_CROSS = np.outer(
    [1, 1j, -1, -1j], [1 - _ARM * 1j, 1 + _ARM * 1j, _ARM + _ARM * 1j]
).ravel()


def generate_shapes(
    index: int,
    split: str = 'train',
    image_size: tuple[int, int] = (128, 128),
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Generates an image and its labels.

    The same arguments give the same image in every process. The split is
    part of the seed, so that splits share no image.

    Args:
        index (int): index of the image in its split, not negative.
        split (str): ``'train'``, ``'val'`` or ``'test'``.
        image_size (tuple[int, int]): (H, W), each at least 32, and one at most
            28 times the other.
        seed (int): seed of the dataset, not negative.

    Returns:
        tuple[np.ndarray, np.ndarray]: image, uint8, shape (H, W, 3), BGR; and
        labels, uint8, shape (H, W), values in [0, 7).

    Raises:
        ValueError: if an argument is invalid.
    """
    return generate_shapes_with_areas(index, split, image_size, seed)[:2]


def generate_shapes_with_areas(
    index: int,
    split: str = 'train',
    image_size: tuple[int, int] = (128, 128),
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Generates an image, its labels and its instances.

    Arguments and errors are those of :func:`generate_shapes`.

    Returns:
        tuple[np.ndarray, np.ndarray, np.ndarray]: image, labels, and for each
        pixel the number of its region, disc or cross, from 1, or 0 on the
        ground and on lines, uint8, shape (H, W).
    """
    check_arguments(index, split, image_size, seed)
    sequence = np.random.SeedSequence([seed, SPLITS.index(split), index])
    canvas = ShapesCanvas(np.random.default_rng(sequence), *image_size)
    _add_regions(canvas)
    _add_objects(canvas)
    _add_poles_and_wires(canvas)
    return *canvas.finish(), canvas.areas


def check_arguments(
    index: int, split: str, image_size: tuple[int, int], seed: int
) -> None:
    """Raises ValueError if an argument is invalid."""
    if index < 0 or seed < 0:
        raise ValueError(
            'index and seed must not be negative, got '
            f'index={index} and seed={seed}'
        )
    if split not in SPLITS:
        raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
    if len(image_size) != 2 or min(image_size) < MIN_SIZE:
        raise ValueError(
            'image_size must be (height, width), each at least '
            f'{MIN_SIZE}, got {image_size!r}'
        )
    if max(image_size) > MAX_RATIO * min(image_size):
        raise ValueError(
            f'one side of image_size may be at most {MAX_RATIO} times the '
            f'other, got {image_size!r}'
        )


def _add_regions(canvas: ShapesCanvas) -> None:
    """Adds two or three large blobs with both textures."""
    rng = canvas.rng
    kinds = [STRIPES, CHECKER]
    if rng.random() < 0.5:
        kinds.append(STRIPES if rng.random() < 0.5 else CHECKER)
    if rng.random() < 0.5:
        kinds.reverse()
    # The centers lie on a circle, so that every blob stays visible.
    start = rng.random()
    for number, kind in enumerate(kinds):
        turn = np.exp(2j * np.pi * (start + number / len(kinds)))
        outline = rng.uniform(0.24, 0.36) * turn + _blob(rng)
        x = canvas.width * (0.5 + outline.real)
        y = canvas.height * (0.5 + outline.imag)
        canvas.fill(kind, x + 1j * y)


def _blob(rng: np.random.Generator) -> np.ndarray:
    """Returns the outline of a smooth star-shaped blob around 0, (P,)."""
    wobbles, phases = rng.random((2, 3))
    radius = np.ones(len(_CIRCLE))
    for frequency, wobble, phase in zip(
        (2, 3, 4), wobbles, phases, strict=True
    ):
        wave = _CIRCLE**frequency * np.exp(2j * np.pi * phase)
        radius += 0.4 / frequency * wobble * wave.real
    return rng.uniform(0.26, 0.36) * radius * _CIRCLE


def _add_objects(canvas: ShapesCanvas) -> None:
    """Adds two or three discs and as many crosses, far from each other."""
    rng = canvas.rng
    kinds = [DISC, CROSS] * int(rng.integers(2, 4))
    centers = np.empty(0, complex)
    for kind in kinds:
        radius = rng.uniform(8, 12) * canvas.unit
        xs = rng.uniform(radius, canvas.width - radius, 12)
        ys = rng.uniform(radius, canvas.height - radius, 12)
        places = xs + 1j * ys
        gaps = np.abs(places[:, None] - centers).min(axis=1, initial=np.inf)
        center = places[gaps.argmax()]
        centers = np.append(centers, center)
        if kind == DISC:
            outline = radius * _CIRCLE
        else:
            outline = 1.1 * radius * np.exp(2j * np.pi * rng.random()) * _CROSS
        canvas.fill(kind, center + outline)


def _add_poles_and_wires(canvas: ShapesCanvas) -> None:
    """Adds three or four poles and two or three wires between them."""
    rng, height, width = canvas.rng, canvas.height, canvas.width
    count = int(rng.integers(3, 5))
    columns = (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count
    columns *= width - 1
    tops = rng.uniform(0.10, 0.42, count) * height
    for column, top in zip(columns, tops, strict=True):
        length = rng.uniform(0.40, 0.57) * height
        reach = rng.uniform(-0.08, 0.08) * length
        canvas.draw_pole(column, top, top + length, reach)
    ends = tops[[0, -1]] + rng.uniform(-0.08, 0.08, 2) * height
    supports_x = np.concatenate([[-1], columns, [width]])
    supports_y = np.concatenate([ends[:1], tops, ends[1:]])
    for _ in range(int(rng.integers(2, 4))):
        canvas.draw_wire(_hang(rng, supports_x, supports_y, width))
        supports_y = supports_y + rng.uniform(0.10, 0.20) * height


def _hang(
    rng: np.random.Generator,
    supports_x: np.ndarray,
    supports_y: np.ndarray,
    width: int,
) -> np.ndarray:
    """Returns the row of a wire between supports for each column, (W,)."""
    xs = np.arange(width)
    span = np.searchsorted(supports_x[1:-1], xs, side='right')
    gap = np.diff(supports_x)[span]
    t = (xs - supports_x[span]) / gap
    sag = rng.uniform(0.10, 0.25) * gap
    rise = np.diff(supports_y)[span]
    return supports_y[span] + rise * t + 4 * sag * t * (1 - t)
