"""The common corruptions of images, to measure robustness by."""

from collections.abc import Callable, Sequence
from importlib import import_module

import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS
from .image_seed import image_seed

CORRUPTIONS = dict(
    noise=('gaussian_noise', 'shot_noise', 'impulse_noise'),
    blur=('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    weather=('snow', 'frost', 'fog', 'brightness'),
    digital=(
        'contrast',
        'elastic_transform',
        'pixelate',
        'jpeg_compression',
    ),
    extra=('speckle_noise', 'gaussian_blur', 'spatter', 'saturate'),
)
SEVERITIES = (1, 2, 3, 4, 5)
MIN_SIZE = 32

_GROUPS = dict(
    common=tuple(group for group in CORRUPTIONS if group != 'extra'),
    all=tuple(CORRUPTIONS),
)
# the two that do not draw from NumPy's global state
_TAKE_A_SEED = ('impulse_noise', 'glass_blur')


def choose_corruptions(names: Sequence[str]) -> list[str]:
    """Returns the corruptions that are meant, in the order of `CORRUPTIONS`.

    Args:
        names: names of corruptions, of their groups, 'common' for the 15 of
            the benchmark, or 'all', which adds the four extra ones.

    Raises:
        ValueError: a name is not known.
    """
    chosen = set()
    for name in names:
        groups = _GROUPS.get(name, (name,))
        members = [m for g in groups for m in CORRUPTIONS.get(g, (g,))]
        _check_name(members, name)
        chosen.update(members)
    return [m for group in CORRUPTIONS.values() for m in group if m in chosen]


def load_corrupt() -> Callable[..., np.ndarray]:
    """Returns ``imagecorruptions.corrupt``.

    Raises:
        ImportError: the package is missing, with the way to get it.
    """
    try:
        return import_module('imagecorruptions').corrupt
    except ImportError as error:
        raise ImportError(
            f'the corruptions cannot be loaded ({error}): '
            "pip install 'imagecorruptions-imaug>=1.1.5,<2.0'"
        ) from error


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """Corrupts the image as Hendrycks and Dietterich (ICLR 2019) do.

    It stands directly behind the step that loads the image, where a camera
    or the weather would do its harm: before any resizing. Chance depends on
    the image's name, the corruption, the severity and the seed alone, so
    that a test is the same with any number of workers and in any order.

    ``mmdet.Corrupt`` calls the same library, but draws anew each time and
    takes blue for red.

    Required keys: img (uint8, shape (H, W, 3), BGR, H and W at least 32),
    img_path.

    Modified keys: img.

    Args:
        corruption: a name from `CORRUPTIONS`.
        severity: 1, the mildest, to 5.
        seed: another seed gives other noise.

    Raises:
        ValueError: an argument is out of its range, the image is none that
            can be corrupted, or the library fails on it.
        ImportError: the library is missing.
    """

    def __init__(
        self, corruption: str, severity: int = 1, seed: int = 0
    ) -> None:
        members = [m for group in CORRUPTIONS.values() for m in group]
        if corruption not in members:
            _check_name([corruption], corruption)
        if severity not in SEVERITIES:
            raise ValueError(f'severity must be 1 to 5, got {severity!r}')
        self.corruption = corruption
        self.severity = int(severity)
        self.seed = seed
        self._corrupt = load_corrupt()

    def transform(self, results: dict) -> dict:
        """Corrupts the image of an entry."""
        image = results['img']
        self._check_image(image)
        seed = image_seed(results, self.corruption, self.severity, self.seed)
        rgb = np.ascontiguousarray(image[..., ::-1])
        try:
            rgb = self._apply(rgb, seed)
        except Exception as error:
            height, width = image.shape[:2]
            raise ValueError(
                f'{self.corruption} of severity {self.severity} fails on '
                f'{results["img_path"]}, {height}x{width} pixels: '
                f'{type(error).__name__}: {error}'
            ) from error
        results['img'] = np.ascontiguousarray(rgb[..., ::-1])
        return results

    def _apply(self, rgb: np.ndarray, seed: int) -> np.ndarray:
        """Calls the library; leaves NumPy's global state as it was."""
        options = dict(seed=seed) if self.corruption in _TAKE_A_SEED else {}
        state = np.random.get_state()
        np.random.seed(seed)
        try:
            return self._corrupt(
                rgb,
                corruption_name=self.corruption,
                severity=self.severity,
                **options,
            )
        finally:
            np.random.set_state(state)

    def _check_image(self, image: np.ndarray) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f'img is {image.dtype} of shape {image.shape}: Corrupt needs '
                'uint8 and three channels; put it directly behind the step '
                'that loads the image, without to_float32'
            )
        if min(image.shape[:2]) < MIN_SIZE:
            raise ValueError(
                f'{self.corruption} needs images of {MIN_SIZE}x{MIN_SIZE} '
                f'pixels at least, got {image.shape[0]}x{image.shape[1]}'
            )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(corruption={self.corruption!r}, '
            f'severity={self.severity}, seed={self.seed})'
        )


def _check_name(members: Sequence[str], name: str) -> None:
    """Raises ValueError unless all members are corruptions."""
    known = [m for group in CORRUPTIONS.values() for m in group]
    if not set(members) <= set(known):
        raise ValueError(
            f'{name!r} is no corruption; choose from {", ".join(known)}, or '
            f'the groups {", ".join((*CORRUPTIONS, *_GROUPS))}'
        )
