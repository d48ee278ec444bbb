"""A blank sheet measured in pixels, on which panels are laid out by hand.

It uses matplotlib's object interface only: no window system is touched and no
global state of pyplot is changed.

Shapes:
    H, W: height and width of an image in pixels.
    K: number of classes.
"""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 100
GOLDEN_RATIO = 0.618034  # turns of a colour wheel that never come close
INK = '#1f2328'
FAINT_INK = '#656d76'


class Sheet:
    """A white page; every position counts pixels from its top left corner.

    Args:
        width (int): Width of the page in pixels.
        height (int): Height of the page in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.figure = Figure(
            figsize=(width / DPI, height / DPI), dpi=DPI, facecolor='white'
        )
        FigureCanvasAgg(self.figure)

    def panel(
        self, image: np.ndarray, x: float, y: float, width: int, height: int
    ) -> Axes:
        """Shows an image in a box, centred, its aspect ratio kept.

        Args:
            image (np.ndarray): uint8, shape (H, W, 3), RGB.
            x (float): Left edge of the box in pixels.
            y (float): Top edge of the box in pixels.
            width (int): Width of the box in pixels.
            height (int): Height of the box in pixels.

        Returns:
            Axes: Its data coordinates are the pixels of ``image``; the top
            left corner of the image is (0, 0).
        """
        rows, columns = image.shape[:2]
        box = (
            x / self.width,
            1 - (y + height) / self.height,
            width / self.width,
            height / self.height,
        )
        axes = self.figure.add_axes(box)
        axes.imshow(image, extent=(0, columns, rows, 0))
        axes.set_axis_off()
        return axes

    def text(
        self,
        text: str,
        x: float,
        y: float,
        size: float = 9,
        color: str = INK,
        ha: str = 'left',
        weight: str = 'normal',
    ) -> None:
        """Writes one line whose baseline is at height ``y``."""
        self.figure.text(
            x / self.width,
            1 - y / self.height,
            text,
            fontsize=size,
            color=color,
            ha=ha,
            va='baseline',
            weight=weight,
        )


def panel_size(
    height: int, width: int, target: int = 256, most: int = 360
) -> tuple[int, int]:
    """Chooses on how many pixels an image is shown.

    Small images are enlarged by a whole factor, so that structures one
    pixel thin stay even; large ones are shrunk to ``most`` pixels.

    Args:
        height (int): Height of the image.
        width (int): Width of the image.
        target (int): Length aimed at for the longer side of small images.
        most (int): Largest allowed length of the longer side.

    Returns:
        tuple[int, int]: Height and width of the panel in pixels.
    """
    longer = max(height, width)
    scale: float = max(1, round(target / longer))
    if longer * scale > most:
        scale = most / longer
    return max(1, round(height * scale)), max(1, round(width * scale))


def check_image(image: np.ndarray) -> None:
    """Refuses everything that is not a non-empty uint8 RGB image.

    Raises:
        TypeError: If the values are not uint8.
        ValueError: If the shape is not (H, W, 3) with H, W > 0.
    """
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f'an image has shape (H, W, 3), not {image.shape}; move the '
            'channels to the end'
        )
    if image.dtype != np.uint8:
        raise TypeError(
            f'an image holds uint8 values 0..255, not {image.dtype}; undo '
            'its normalisation first'
        )


def check_classes(
    classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> np.ndarray:
    """Pairs class names with colours.

    Args:
        classes (Sequence[str]): K names.
        palette (Sequence[Sequence[int]]): K colours, RGB in 0..255.

    Returns:
        np.ndarray: The colours, uint8, shape (K, 3).

    Raises:
        ValueError: If there are no classes, or not one colour for each.
    """
    colours = np.asarray(palette)
    if len(classes) == 0 or colours.shape != (len(classes), 3):
        raise ValueError(
            f'{len(classes)} classes need a palette of shape '
            f'({len(classes)}, 3), not {colours.shape}'
        )
    if colours.min() < 0 or colours.max() > 255:
        raise ValueError('palette values lie in 0..255')
    return colours.astype(np.uint8)


def make_palette(count: int) -> list[list[int]]:
    """Returns colours that can be told apart, RGB in 0..255."""
    colours = []
    for n in range(count):
        hue = (0.6 + n * GOLDEN_RATIO) % 1
        saturation, value = 0.55 + 0.3 * (n % 2), 0.95 - 0.25 * (n % 3)
        colours.append(colorsys.hsv_to_rgb(hue, saturation, value))
    return [[round(255 * x) for x in colour] for colour in colours]


def figure_pixels(figure: Figure) -> np.ndarray:
    """Returns a figure as an image, uint8, shape (H, W, 3), RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Writes a figure as PNG, creating the folder when it is missing.

    Raises:
        ValueError: If the file name does not end in ``.png``.
    """
    path = Path(path)
    if path.suffix.lower() != '.png':
        raise ValueError(f'{path.name} has to end in .png')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=figure.dpi, facecolor='white')
    return path
