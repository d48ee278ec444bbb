"""Loading steps that say what is wrong with a file, or leave it out.

Shapes:
    H, W: height and width of a picture in pixels.
"""

import logging
from collections.abc import Callable
from typing import Any

import mmcv
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from mmengine.logging import print_log
from mmseg.datasets.transforms import LoadAnnotations
from torch.utils.data import get_worker_info

from ...registry import TRANSFORMS
from ..decode_image import UnreadableError, decode_image

CHOICES = ('raise', 'skip')
BACKENDS = ('pillow', 'cv2', 'tifffile', 'turbojpeg')  # of mmcv
MAX_WORKERS = 256
NO_LABEL = 255


class Skipped:
    """Counts files that are left out, over all workers of a dataloader."""

    def __init__(self) -> None:
        # shared with the workers, each of which counts in a place of its own
        self.counts = torch.zeros(MAX_WORKERS, dtype=torch.int64)
        self.counts.share_memory_()
        self.told: set[str] = set()

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if not self.counts.is_shared():  # a copy, not one sent to a worker
            self.counts.share_memory_()

    def add(self, path: str, reason: Exception) -> None:
        """Counts one and tells it, each file once per worker."""
        worker = get_worker_info()
        place = 0 if worker is None else 1 + worker.id % (MAX_WORKERS - 1)
        self.counts[place] += 1
        if path not in self.told:
            self.told.add(path)
            print_log(
                f'{reason}. In training another picture takes its place; this '
                'happened '
                f'{self.total} times in this process so far',
                logger='current',
                level=logging.WARNING,
            )

    @property
    def total(self) -> int:
        """How many there were."""
        return int(self.counts.sum())


def check_choice(on_error: str) -> None:
    """Raises ValueError if it is not one of ``CHOICES``."""
    if on_error not in CHOICES:
        raise ValueError(f'on_error must be one of {CHOICES}: {on_error!r}')


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that knows what it could not read.

    Whole pictures are the same, bit for bit. Where a file is missing, damaged
    or cut off (of which older OpenCV makes a picture whose rest is grey), the
    error names it, or another picture takes its place and the skips are
    counted.

    Args:
        on_error (str): ``'raise'`` raises; ``'skip'``, for training only,
            logs a warning and lets the dataset load another image.
        to_float32 (bool): see mmcv, as for the others.
        color_type (str): how to read it: see :func:`decode_image`.
        backend_args (dict, optional): file backend of mmengine.

    Raises:
        ValueError: if an image cannot be read, or ``on_error`` is invalid.
        OSError: if there is no such file.
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
        check_choice(on_error)
        self.on_error = on_error
        self.skipped = Skipped()

    def transform(self, results: dict) -> dict | None:
        """Adds ``img``, (H, W, 3), ``img_shape`` and ``ori_shape``."""
        path = results['img_path']

        def load() -> dict:
            content = get(path, backend_args=self.backend_args)
            picture = decode_image(content, path, self.color_type)
            if self.to_float32:
                picture = picture.astype(np.float32)
            results['img'] = picture
            results['img_shape'] = results['ori_shape'] = picture.shape[:2]
            return results

        return _load_or_skip(load, path, self.on_error, self.skipped)


@TRANSFORMS.register_module()
class LoadCheckedAnnotations(LoadAnnotations):
    """mmseg's ``LoadAnnotations`` that knows what it could not read.

    Good masks are the same. mmseg takes labels modulo 256, and a mask of
    another size than its picture as it is; here both are errors, or another
    picture takes its place and the skips are counted. Masks of one row or
    column keep their shape.

    Args:
        on_error (str): see :class:`LoadCheckedImage`.
        reduce_zero_label (bool, optional): see mmseg; None takes that of the
            data set.
        backend_args (dict, optional): file backend of mmengine.
        imdecode_backend (str): ``'pillow'`` reads numbers of palettes.

    Raises:
        ValueError: if a mask cannot be read, has several channels, another
            size than its image or labels over 255, or if an argument is
            invalid.
        OSError: if there is no such file.
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
        check_choice(on_error)
        if imdecode_backend not in BACKENDS:
            raise ValueError(
                f'imdecode_backend must be one of {BACKENDS}: '
                f'{imdecode_backend!r}'
            )
        self.on_error = on_error
        self.skipped = Skipped()

    def transform(self, results: dict) -> dict | None:
        """Adds ``gt_seg_map``, uint8, (H, W)."""
        return _load_or_skip(
            lambda: super(LoadCheckedAnnotations, self).transform(results),
            results['seg_map_path'],
            self.on_error,
            self.skipped,
        )

    def _load_seg_map(self, results: dict) -> None:
        mask = self.read_mask(results)
        table = np.arange(256)
        if self._reduces(results):
            table = np.roll(table, 1)  # 0 to 255, 1 to 0
            table[NO_LABEL] = NO_LABEL
        mapped = table.copy()
        for old, new in (results.get('label_map') or {}).items():
            mapped[table == old] = new
        results['gt_seg_map'] = mapped.astype(np.uint8)[mask]
        results['seg_fields'].append('gt_seg_map')

    def _reduces(self, results: dict) -> bool:
        told = results['reduce_zero_label']
        if self.reduce_zero_label not in (None, told):
            raise ValueError(
                f'reduce_zero_label is {told} in the data set and '
                f'{self.reduce_zero_label} in the loading step: take it out '
                'of the latter'
            )
        return bool(told)

    def read_mask(self, results: dict) -> np.ndarray:
        """Returns the labels as they are in the file.

        Args:
            results (dict): with ``seg_map_path``, and ``ori_shape`` of the
                picture, if that is loaded.

        Returns:
            np.ndarray: shape (H, W), whole numbers from 0 to 255.

        Raises:
            UnreadableError: a ValueError, see the class.
        """
        path = results['seg_map_path']
        content = get(path, backend_args=self.backend_args)
        try:
            mask = mmcv.imfrombytes(
                content, flag='unchanged', backend=self.imdecode_backend
            )
        except ImportError:  # of the decoder
            raise
        except Exception as error:
            # whatever a decoder of any kind may raise
            raise UnreadableError(f'{path} cannot be read: {error}') from error
        if mask is None:
            raise UnreadableError(f'{path} cannot be read: it is damaged')
        if mask.ndim == 3 and mask.shape[2] == 1:
            mask = mask[..., 0]
        size = results.get('ori_shape', mask.shape)[:2]
        if mask.ndim != 2:
            raise UnreadableError(
                f'{path} has shape {mask.shape}: labels are numbers of '
                'classes in one channel; tools/new_dataset.py --colours '
                'converts coloured ones'
            )
        if mask.shape != tuple(size):
            raise UnreadableError(
                f'{path} has height and width {mask.shape}, but its picture '
                f'{results.get("img_path")} has {tuple(size)}: bring both to '
                'the same size; if the picture is turned by what its file '
                "says (EXIF), load it with color_type='color_ignore_"
                "orientation'"
            )
        whole = mask.dtype.kind in 'bui' or np.array_equal(mask, mask.round())
        if not whole or (
            mask.size and not 0 <= mask.min() <= mask.max() <= NO_LABEL
        ):
            raise UnreadableError(
                f'{path} holds labels from {mask.min()} to {mask.max()}, '
                f'{mask.dtype}: write whole numbers from 0 to 255'
            )
        return mask.astype(np.uint8)


def _load_or_skip(
    load: Callable[[], Any], path: str, on_error: str, skipped: Skipped
) -> Any:
    """Returns what ``load`` returns; None makes mmengine load another one."""
    try:
        return load()
    except (OSError, UnreadableError) as error:
        if on_error == 'raise':
            raise
        skipped.add(path, error)
        return None
