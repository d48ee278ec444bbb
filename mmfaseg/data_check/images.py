"""Checks of every image and its label map."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from mmengine.registry import TRANSFORMS
from PIL import ExifTags, Image

from ..datasets.transforms import LoadCheckedAnnotations
from ..utils.diagnostics import Diagnostics
from ..utils.type_name import LOAD_LABELS, type_name
from .labels import LabelStatistics, suggest_label_fix
from .split import Split, list_suffixes

LOAD_IMAGE = ('LoadImageFromFile', 'LoadCheckedImage')
DARK = 16  # of 255: images of 12 bits in 16-bit files stay below


class ImageChecker:
    """Reads images of a split as the pipeline does and reports problems.

    Attributes:
        statistics (LabelStatistics): frequencies of the valid labels.
        sizes (set[tuple[int, int]]): heights and widths of the images.
    """

    def __init__(
        self, split: Split, diagnostics: Diagnostics, channels: int
    ) -> None:
        self.split = split
        self.diagnostics = diagnostics
        self.channels = channels
        self.statistics = LabelStatistics(len(split.classes))
        self.sizes: set[tuple[int, int]] = set()
        self._label_loader: LoadCheckedAnnotations | None = None
        self._steps: list[Callable[[dict], dict]] = []
        for step in split.pipeline:
            name = type_name(step)
            if not name.startswith(('Load', 'Generate')):
                continue
            if not isinstance(step, Mapping):
                self._steps.append(step)
            elif name in LOAD_LABELS:
                self._label_loader = LoadCheckedAnnotations(
                    backend_args=step.get('backend_args'),
                    imdecode_backend=step.get('imdecode_backend', 'pillow'),
                )
                self._steps.append(self._label_loader)
            else:
                if 'on_error' in step:
                    step = dict(step, on_error='raise')
                self._steps.append(TRANSFORMS.build(step))

    def check(self, entry: Mapping) -> None:
        """Checks the image and the label map of one entry of the dataset."""
        if not self._files_exist(entry):
            return
        if self._label_loader is not None and 'seg_map_path' not in entry:
            self.diagnostics.error(
                self.split.name,
                'the dataset has no folder of masks',
                f'set {self.split.key}.data_prefix.seg_map_path',
            )
            return
        loaded = dict(entry)
        path = str(entry.get('img_path'))
        try:
            for step in self._steps:
                loaded = step(loaded)
        except Exception as error:  # custom loaders may raise anything
            self._report_file(
                'an image or its mask cannot be read',
                'fix the file or remove it from the split',
                f'{path}: {type(error).__name__}: {error}',
            )
            return
        if 'ori_shape' in loaded:
            self.sizes.add(tuple(loaded['ori_shape'][:2]))
        labels = loaded.get('gt_seg_map')
        if labels is not None:
            self._check_channels(path, loaded['img'])
            self._check_brightness(path, loaded['img'])
            self._check_orientation(path)
            self._check_labels(path, loaded, labels.astype(np.int64))
        elif self.split.group != 'test':  # which may have no labels
            self.diagnostics.error(
                self.split.name,
                'the pipeline loads no labels',
                f"add dict(type='LoadAnnotations') to {self.split.key}"
                '.pipeline',
            )

    def check_batch_size(self, batch_size: int) -> None:
        """Reports a batch size that needs images of equal size.

        mmseg pads only training batches.
        """
        changes_size = any(
            not type_name(step).startswith(('Load', 'Pack'))
            for step in self.split.pipeline
        )
        is_padded = self.split.group == 'train'
        if is_padded or changes_size or batch_size == 1 or len(self.sizes) < 2:
            return
        first, second, *_ = sorted(self.sizes)
        self.diagnostics.error(
            self.split.name,
            f'batches of {batch_size} images need equal sizes, but there are '
            f'{first} and {second}',
            f'set {self.split.group}_dataloader.batch_size=1, or resize the '
            'images in the pipeline',
        )

    def _report_file(self, problem: str, remedy: str, example: str) -> None:
        """Reports an error, or a warning if training skips such files."""
        report = self.diagnostics.error
        if self.split.skips:
            report = self.diagnostics.warn
            problem = f'{problem}; training skips it'
        report(self.split.name, problem, remedy, example)

    def _files_exist(self, entry: Mapping) -> bool:
        for key, kind, setting in (
            ('img_path', 'image', 'img_suffix'),
            ('seg_map_path', 'mask', 'seg_map_suffix'),
        ):
            name = entry.get(key)
            if name is None or '://' in name or Path(name).is_file():
                continue
            folder = Path(name).parent
            self._report_file(
                f'the {kind} does not exist',
                f'{folder} contains {list_suffixes(folder) or "nothing"}: '
                f'set {self.split.key}.{setting} or data_prefix, or remove '
                'the entry',
                name,
            )
            return False
        return True

    def _check_channels(self, path: str, image: np.ndarray) -> None:
        """Warns, because later steps of the pipeline may select channels."""
        found = image.shape[2] if image.ndim == 3 else 1
        if found != self.channels:
            self.diagnostics.warn(
                self.split.name,
                f'the model takes {self.channels} channels, but an image is '
                f'loaded with {found}',
                'set color_type of the step that loads the image, or the '
                'length of data_preprocessor.mean and model.backbone'
                '.in_channels',
                path,
            )

    def _check_brightness(self, path: str, image: np.ndarray) -> None:
        brightest = image.max(initial=0)
        if image.dtype == np.uint8 and brightest < DARK:
            self.diagnostics.warn(
                self.split.name,
                'an image is nearly black',
                'scale images with values from 0 to 1, or with 12 bits in a '
                '16-bit file (only the upper 8 bits are read), to 0..255',
                f'{path}: maximum {brightest} of 255',
            )

    def _check_orientation(self, path: str) -> None:
        """Warns of images that mmcv rotates and whose mask is not rotated.

        Where a rotation swaps height and width, the label loader raises.
        """
        step = self.split.step(LOAD_IMAGE)
        if step is None or 'ignore_orientation' in step.get('color_type', ''):
            return
        try:
            with Image.open(path) as image:
                exif = image.getexif()
        except OSError:
            return
        if exif.get(ExifTags.Base.Orientation, 1) > 1:
            self.diagnostics.warn(
                self.split.name,
                'an image is rotated by its EXIF orientation, but its mask is '
                'not',
                'if the mask belongs to the image as stored, set color_type='
                "'color_ignore_orientation' in the step that loads the image",
                path,
            )

    def _check_labels(
        self, path: str, loaded: dict, labels: np.ndarray
    ) -> None:
        """Reports labels that are not classes; counts valid label maps."""
        split = self.split
        valid = (labels >= 0) & (labels < len(split.classes))
        valid |= labels == split.ignore_index
        if valid.all():
            self.statistics.add(labels, split.ignore_index)
            return
        stored = labels  # before label_map and reduce_zero_label
        if self._label_loader is not None:
            stored = self._label_loader.read_mask(loaded)
        invalid = np.unique(stored[~valid]).tolist()
        self.diagnostics.error(
            split.name,
            f'labels are not in the {len(split.classes)} classes',
            suggest_label_fix(split, invalid, int(stored.min())),
            f'{path}: {invalid}',
        )
