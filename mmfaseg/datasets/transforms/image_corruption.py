"""Common image corruptions, to measure robustness."""

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

_NAMES = [name for group in CORRUPTIONS.values() for name in group]
_CHOICES: dict[str, Sequence[str]] = {
    **{name: [name] for name in _NAMES},
    **CORRUPTIONS,
    'common': [name for name in _NAMES if name not in CORRUPTIONS['extra']],
    'all': _NAMES,
}
# the two that do not draw from NumPy's global state
_TAKE_A_SEED = ('impulse_noise', 'glass_blur')


def choose_corruptions(names: Sequence[str]) -> list[str]:
    """Returns the selected corruptions in the order of ``CORRUPTIONS``.

    Args:
        names (Sequence[str]): names of corruptions or of their groups;
            ``'common'`` for the 15 of the benchmark, ``'all'`` for these and
            the four extra ones.

    Raises:
        ValueError: if a name is unknown.
    """
    for name in names:
        if name not in _CHOICES:
            raise ValueError(
                f'unknown corruption {name!r}, choose from '
                f'{", ".join(_CHOICES)}'
            )
    chosen = {member for name in names for member in _CHOICES[name]}
    return [name for name in _NAMES if name in chosen]


def load_corrupt() -> Callable[..., np.ndarray]:
    """Returns ``imagecorruptions.corrupt``.

    Raises:
        ImportError: if the package is not installed.
    """
    try:
        return import_module('imagecorruptions').corrupt
    except ImportError as error:
        raise ImportError(
            f'imagecorruptions cannot be imported ({error}): '
            "pip install 'imagecorruptions-imaug>=1.1.5,<2.0'"
        ) from error


@TRANSFORMS.register_module()
class ImageCorruption(BaseTransform):
    """Corrupts images as Hendrycks and Dietterich (ICLR 2019) do.

    Use it directly after the step that loads the image. The random numbers
    depend only on the name of the image, the corruption, the severity and the
    seed, so that results do not depend on the number of workers or the order
    of the images. ``mmdet.Corrupt`` uses the same library, but different
    random numbers in each run, and passes BGR images where RGB is expected.

    Required keys: img (uint8, shape (H, W, 3), BGR, H and W at least 32),
    img_path.

    Modified keys: img.

    Args:
        corruption (str): name of a corruption, see ``CORRUPTIONS``.
        severity (int): from 1 to 5.
        seed (int): seed of the random numbers.

    Raises:
        ValueError: if an argument or an image is invalid.
        ImportError: if ``imagecorruptions`` is not installed.
    """

    def __init__(
        self, corruption: str, severity: int = 1, seed: int = 0
    ) -> None:
        if corruption not in _NAMES:
            raise ValueError(
                f'unknown corruption {corruption!r}, choose from '
                f'{", ".join(_NAMES)}'
            )
        if severity not in SEVERITIES:
            raise ValueError(f'severity must be 1 to 5, got {severity!r}')
        self.corruption = corruption
        self.severity = int(severity)
        self.seed = seed
        self._corrupt = load_corrupt()

    def transform(self, results: dict) -> dict:
        """Corrupts the image of an entry."""
        image = results['img']
        if image.shape[2:] != (3,):  # the library makes color images of gray
            raise ValueError(
                f'{self.corruption} requires images of shape (H, W, 3), got '
                f'{image.shape}'
            )
        seed = image_seed(results, self.corruption, self.severity, self.seed)
        options = dict(seed=seed) if self.corruption in _TAKE_A_SEED else {}
        rgb = np.ascontiguousarray(image[..., ::-1])
        state = np.random.get_state()
        np.random.seed(seed)
        try:
            rgb = self._corrupt(rgb, self.severity, self.corruption, **options)
        except Exception as error:
            raise ValueError(
                f'{self.corruption} of severity {self.severity} fails on '
                f'{results["img_path"]}, shape {image.shape}: '
                f'{type(error).__name__}: {error}'
            ) from error
        finally:
            np.random.set_state(state)
        results['img'] = np.ascontiguousarray(rgb[..., ::-1])
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(corruption={self.corruption!r}, '
            f'severity={self.severity}, seed={self.seed})'
        )
