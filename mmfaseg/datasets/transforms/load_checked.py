"""Loading steps that reject, or skip, damaged images and invalid masks.

Shapes:
    H, W: height and width of an image in pixels.
"""

import logging
from collections.abc import Callable

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from mmengine.logging import print_log
from mmseg.datasets.transforms import LoadAnnotations

from ...registry import TRANSFORMS

ON_ERROR = ('raise', 'skip')
BACKENDS = ('pillow', 'cv2', 'tifffile', 'turbojpeg')  # of mmcv
IGNORED = 255
MAX_LABEL = 65535


class UnreadableError(ValueError):
    """A file cannot be used; the message names it."""


class _ErrorPolicy:
    """Raises errors about files, or logs each file once and skips it."""

    def __init__(self, on_error: str) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(
                f'on_error must be one of {ON_ERROR}, got {on_error!r}'
            )
        self.skips = on_error == 'skip'
        self.logged: set[str] = set()

    def apply(
        self, load: Callable[[dict], dict], results: dict
    ) -> dict | None:
        """Returns ``load(results)``, or None for a skipped file.

        For None, mmengine's datasets load another image.
        """
        try:
            return load(results)
        except (OSError, UnreadableError) as error:
            if not self.skips:
                raise
            if str(error) not in self.logged:
                self.logged.add(str(error))
                print_log(
                    f'{error}. Another image is used in its place',
                    logger='current',
                    level=logging.WARNING,
                )
            return None


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """``LoadImageFromFile`` that names damaged files, or skips them.

    Valid images are equal to those of mmcv's class: 16-bit images keep their
    upper 8 bits, and CMYK becomes RGB. OpenCV before 4.12 does not detect
    truncated JPEG files.

    Required keys: img_path.

    Added keys: img (uint8 or float32, shape (H, W, 3), BGR), img_shape,
    ori_shape.

    Args:
        on_error (str): ``'raise'``; or ``'skip'``, for training only, which
            logs a warning and makes the dataset load another image.
        to_float32 (bool): convert the image to float32.
        color_type (str): as in mmcv's class. The EXIF orientation is applied
            unless it is ``'color_ignore_orientation'``.
        backend_args (dict, optional): file backend of mmengine.

    Raises:
        ValueError: if an image is damaged, or ``on_error`` is invalid.
        OSError: if a file does not exist.
    """

    def __init__(
        self,
        on_error: str = 'raise',
        to_float32: bool = False,
        color_type: str = 'color',
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(
            to_float32=to_float32,
            color_type=color_type,
            backend_args=backend_args,
        )
        self.policy = _ErrorPolicy(on_error)

    def transform(self, results: dict) -> dict | None:
        """Adds the image to an entry of the data list."""
        return self.policy.apply(self._load, results)

    def _load(self, results: dict) -> dict:
        try:
            return super().transform(results)
        # mmcv asserts that the image was decoded
        except (AssertionError, cv2.error) as error:
            raise UnreadableError(
                f'{results["img_path"]} cannot be read as an image: it is '
                'empty, damaged, truncated, too large or of an unknown format'
            ) from error


@TRANSFORMS.register_module()
class LoadCheckedAnnotations(LoadAnnotations):
    """``LoadAnnotations`` that rejects, or skips, invalid masks.

    Valid masks with labels up to 255 are equal to those of mmseg's class,
    which takes labels modulo 256 and does not compare the sizes of mask and
    image. Masks with one row or column keep their shape.

    Required keys: seg_map_path, reduce_zero_label, seg_fields; optionally
    label_map and ori_shape.

    Added keys: gt_seg_map (uint8, or uint16 for labels above 255, shape
    (H, W)).

    Args:
        on_error (str): see :class:`LoadCheckedImage`.
        reduce_zero_label (bool, optional): must equal that of the dataset,
            unless None.
        backend_args (dict, optional): file backend of mmengine.
        imdecode_backend (str): decoder of mmcv; ``'pillow'`` reads the
            indices of palette images.

    Raises:
        ValueError: if a mask is damaged, has several channels, another size
            than its image, or labels outside 0 to 65535 (0 to 255 with
            ``reduce_zero_label``); or if an argument is invalid.
        OSError: if a file does not exist.
    """

    def __init__(
        self,
        on_error: str = 'raise',
        reduce_zero_label: bool | None = None,
        backend_args: dict | None = None,
        imdecode_backend: str = 'pillow',
    ) -> None:
        super().__init__(
            reduce_zero_label=reduce_zero_label,
            backend_args=backend_args,
            imdecode_backend=imdecode_backend,
        )
        if imdecode_backend not in BACKENDS:
            raise ValueError(
                f'imdecode_backend must be one of {BACKENDS}, got '
                f'{imdecode_backend!r}'
            )
        self.policy = _ErrorPolicy(on_error)

    def transform(self, results: dict) -> dict | None:
        """Adds the label map to an entry of the data list."""
        return self.policy.apply(super().transform, results)

    def _load_seg_map(self, results: dict) -> None:
        reduce_zero_label = bool(results['reduce_zero_label'])
        if self.reduce_zero_label not in (None, reduce_zero_label):
            raise ValueError(
                f'reduce_zero_label is {reduce_zero_label} in the dataset '
                f'and {self.reduce_zero_label} in the loading step: remove it '
                'from the latter'
            )
        mask = self.read_mask(results)
        new_labels = np.arange(np.iinfo(mask.dtype).max + 1)
        if reduce_zero_label:
            if mask.dtype != np.uint8:
                raise UnreadableError(
                    f'{results["seg_map_path"]} has labels to {mask.max()}, '
                    'but reduce_zero_label supports labels to 255: change '
                    'the labels in the files'
                )
            new_labels = np.roll(new_labels, 1)  # 0 to 255, 1 to 0
            new_labels[IGNORED] = IGNORED
        mapped = new_labels.copy()
        for old, new in (results.get('label_map') or {}).items():
            mapped[new_labels == old] = new
        dtype = np.min_scalar_type(mapped.max())  # label_map may exceed 255
        results['gt_seg_map'] = mapped.astype(dtype)[mask]
        results['seg_fields'].append('gt_seg_map')

    def read_mask(self, results: dict) -> np.ndarray:
        """Returns the labels as stored in the file.

        Returns:
            np.ndarray: uint8, or uint16 for labels above 255, shape (H, W).

        Raises:
            UnreadableError: a ValueError, if the mask is invalid.
        """
        path = results['seg_map_path']
        content = get(path, backend_args=self.backend_args)
        try:
            mask = mmcv.imfrombytes(
                content, flag='unchanged', backend=self.imdecode_backend
            )
        except ImportError:  # of the decoder
            raise
        except Exception as error:  # decoders may raise anything
            raise UnreadableError(f'{path} cannot be read: {error}') from error
        if mask is None:
            raise UnreadableError(f'{path} cannot be read: it is damaged')
        if mask.ndim == 3 and mask.shape[2] == 1:
            mask = mask[..., 0]
        if mask.ndim != 2:
            raise UnreadableError(
                f'{path} has shape {mask.shape}, but masks have one channel '
                'of class indices: convert colored masks with '
                'tools/new_dataset.py --colors, or read palette images with '
                "imdecode_backend='pillow'"
            )
        size = tuple(results.get('ori_shape', mask.shape)[:2])
        if mask.shape != size:
            raise UnreadableError(
                f'{path} has height and width {mask.shape}, but its image '
                f'{results.get("img_path")} has {size}: make both the same '
                'size; if the image is rotated by its EXIF orientation, load '
                "it with color_type='color_ignore_orientation'"
            )
        is_whole = mask.dtype.kind in 'bui' or np.array_equal(
            mask, mask.round()
        )
        if not is_whole or (
            mask.size and not 0 <= mask.min() <= mask.max() <= MAX_LABEL
        ):
            raise UnreadableError(
                f'{path} has {mask.dtype} labels from {mask.min()} to '
                f'{mask.max()}: labels must be integers from 0 to {MAX_LABEL}'
            )
        is_wide = mask.max(initial=0) > IGNORED
        return mask.astype(np.uint16 if is_wide else np.uint8)
