"""Decoding of image files as in a config, and checks of arrays.

Shapes:
    H, W: height and width of an image in pixels.
    C: number of channels of the network input.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import TRANSFORMS

from ..datasets.transforms import LoadCheckedImage
from ..datasets.transforms.load_checked import UnreadableError
from ..utils.config_classes import unwrap_datasets
from ..utils.image_files import IMAGES
from ..utils.input_channels import input_channels
from ..utils.type_name import type_name

IN_MEMORY = ('LoadImageFromNDArray',)
COLOR_TYPES = {1: 'grayscale', 3: 'color'}  # others: unchanged


class ImageLoader:
    """Loads image files for a model and checks arrays.

    Args:
        channels (int): C.
        transform (Callable, optional): Loading transform, which adds ``img``
            to a dict with ``img_path``; by default :class:`LoadCheckedImage`,
            which decodes one or three channels to 8 bits.
        suffixes (tuple[str, ...]): Suffixes of images in folders, lower case.
    """

    def __init__(
        self,
        channels: int = 3,
        transform: Callable[[dict], dict | None] | None = None,
        suffixes: tuple[str, ...] = IMAGES,
    ) -> None:
        self.channels = channels
        self.suffixes = suffixes
        color_type = COLOR_TYPES.get(channels, 'unchanged')
        self._transform = transform or LoadCheckedImage(color_type=color_type)

    @classmethod
    def from_config(cls, cfg: Any) -> 'ImageLoader':
        """Returns the loader of the test pipeline of a config.

        The loading transform is the first whose name starts with ``Load``,
        except those of annotations and arrays.
        """
        transform = None
        for step in plain_test_pipeline(cfg):
            name = type_name(step)
            if (
                name.startswith('Load')
                and 'Annotation' not in name
                and name not in IN_MEMORY
            ):
                transform = step
                if isinstance(step, Mapping):
                    if 'on_error' in step:
                        step = dict(step, on_error='raise')
                    transform = TRANSFORMS.build(step)
                break
        suffixes: tuple[str, ...] = IMAGES
        suffix = (find_test_dataset(cfg).get('img_suffix') or '').lower()
        if suffix and not suffix.endswith(IMAGES):
            suffixes += (suffix,)
        return cls(input_channels(cfg.model), transform, suffixes)

    def load(self, path: Path) -> np.ndarray:
        """Returns the image of a file.

        Returns:
            np.ndarray: Shape (H, W, C), or (H, W) for C = 1, with the dtype
            and the order of channels of the loading transform.

        Raises:
            UnreadableError: A ValueError, if the file cannot be decoded.
            ValueError: If the shape is invalid.
        """
        name = type(self._transform).__name__
        try:
            loaded = self._transform(dict(img_path=str(path)))
        except (FileNotFoundError, ImportError, UnreadableError):
            raise
        except Exception as error:  # custom transforms may raise anything
            raise UnreadableError(
                f'{path} cannot be read as an image by {name}: '
                f'{type(error).__name__}: {error}'
            ) from error
        if loaded is None:
            raise UnreadableError(
                f'{path} cannot be read as an image: {name} returned None'
            )
        # later steps of the pipeline may select channels
        return self._check_shape(loaded['img'], str(path))

    def check_array(self, image: np.ndarray) -> np.ndarray:
        """Returns an array as an image; gray becomes color for C = 3.

        Args:
            image (np.ndarray): Shape (H, W, C) or (H, W); uint8 for C = 3,
                otherwise any integers or floats.

        Raises:
            TypeError: If the dtype is not supported.
            ValueError: If the number of channels is not C.
        """
        image = self._check_shape(image, 'the array')
        found = image.shape[2] if image.ndim == 3 else 1
        if found != self.channels:
            raise ValueError(
                f'the array has {found} channels, shape {image.shape}, but '
                f'the model takes {self.channels}: move the channels to the '
                'end, or select them'
            )
        if self.channels == 3 and image.dtype != np.uint8:
            raise TypeError(
                f'an image must have dtype uint8, got {image.dtype}; convert '
                'it to values from 0 to 255'
            )
        if image.dtype.kind not in 'uif':
            raise TypeError(
                f'an image must have integers or floats, got {image.dtype}'
            )
        return image

    def check_input(self, channels: int, name: str) -> None:
        """Raises ValueError unless the pipeline returned C channels."""
        if channels != self.channels:
            raise ValueError(
                f'{name} has {channels} channels after the test pipeline, but '
                f'the model takes {self.channels}: set color_type of the '
                'loading transform'
            )

    def _check_shape(self, image: np.ndarray, name: str) -> np.ndarray:
        if image.ndim not in (2, 3) or 0 in image.shape:
            raise ValueError(
                f'{name} has shape {image.shape}, but an image must have '
                f'shape (H, W, {self.channels})'
            )
        if image.ndim == 2 and self.channels == 3:
            return np.repeat(image[..., None], 3, -1)
        return image


def plain_test_pipeline(cfg: Any) -> list:
    """Returns the test pipeline of a config without augmentation.

    Raises:
        ValueError: If there is none.
    """
    pipeline = find_test_dataset(cfg).get('pipeline') or ()
    if not pipeline or any(type_name(x) == 'TestTimeAug' for x in pipeline):
        pipeline = cfg.get('test_pipeline')
    if not pipeline:
        raise ValueError(
            'the config has no pipeline for images: set test_pipeline'
        )
    return pipeline


def find_test_dataset(cfg: Any) -> Mapping:
    """Returns the test dataset of a config, without wrappers.

    It is the first of several datasets, and empty if the config has none.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    _, first = unwrap_datasets(dataset, 'test_dataloader.dataset')[0]
    return first
