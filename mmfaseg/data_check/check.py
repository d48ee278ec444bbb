"""Checks of all splits of a config."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.progress import track

from ..utils.diagnostics import Diagnostic, Diagnostics
from ..utils.input_channels import input_channels
from .images import ImageChecker
from .labels import (
    LabelStatistics,
    check_binary_masks,
    check_label_statistics,
)
from .settings import check_settings
from .split import Split, read_splits

NUM_QUICK_IMAGES = 8  # images per split that are read before training


@dataclass(frozen=True)
class DatasetReport:
    """Result of :func:`check_dataset`.

    Attributes:
        diagnostics (Sequence[Diagnostic]): errors first.
        splits (dict[str, Split]): splits that could be built, by name.
        statistics (dict[str, LabelStatistics]): their class frequencies.
    """

    diagnostics: Sequence[Diagnostic]
    splits: dict[str, Split]
    statistics: dict[str, LabelStatistics]

    @property
    def errors(self) -> list[Diagnostic]:
        """Problems that have to be fixed before training."""
        return [x for x in self.diagnostics if x.is_error]

    def class_frequencies(
        self,
    ) -> tuple[tuple[str, ...], dict[str, LabelStatistics]]:
        """Returns class names and the statistics per split.

        Splits without a valid image, or with other classes than the first
        split, are left out.
        """
        read = {x: s for x, s in self.statistics.items() if s.num_images}
        if not read:
            return (), {}
        classes = self.splits[next(iter(read))].classes
        return classes, {
            x: s for x, s in read.items() if self.splits[x].classes == classes
        }


def check_dataset(
    cfg: Config,
    splits: Sequence[str] = ('train', 'val', 'test'),
    limit: int | None = None,
) -> DatasetReport:
    """Checks for problems that make training fail or give wrong results.

    Without ``limit``, a progress bar is shown for each split.

    Args:
        cfg (Config): config of a semantic segmentation model.
        splits (Sequence[str]): any of ``'train'``, ``'val'``, ``'test'``.
        limit (int, optional): maximum number of images to read per split,
            evenly spread. Files of different splits are then compared by
            name only, not by content.

    Raises:
        ValueError: if the config has no ``model.decode_head``.
    """
    if 'decode_head' not in cfg.get('model', {}):
        raise ValueError(
            'the config has no model.decode_head: only data of semantic '
            'segmentation models can be checked'
        )
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    diagnostics = Diagnostics()
    found = read_splits(cfg, splits, diagnostics)
    check_settings(cfg, found, diagnostics, check_colors=limit is None)
    _check_duplicates(found, diagnostics, compare_content=limit is None)
    statistics = {}
    channels = input_channels(cfg.model)
    for name, split in found.items():
        checker = ImageChecker(split, diagnostics, channels)
        statistics[name] = checker.statistics
        total = len(split.entries)
        if limit is not None:
            total = min(total, limit)
        spread = np.linspace(0, len(split.entries) - 1, total)
        indices = spread.round().astype(int)
        for index in track(indices, name, disable=limit is not None):
            checker.check(split.entries[index])
        loader = cfg[f'{split.group}_dataloader']
        checker.check_batch_size(loader.get('batch_size', 1))
    check_binary_masks(found, statistics, diagnostics)
    if limit is None:
        for name, split in found.items():
            check_label_statistics(split, statistics[name], diagnostics)
    return DatasetReport(diagnostics.list(), found, statistics)


def _check_duplicates(
    splits: Mapping[str, Split],
    diagnostics: Diagnostics,
    compare_content: bool,
) -> None:
    """Reports images that are in more than one of train, val and test.

    Datasets that are concatenated into one split may share images. Without
    ``compare_content``, equal paths are reported as warnings; with it, equal
    files as errors.
    """
    if len({split.group for split in splits.values()}) < 2:
        return
    paths = [
        (split, str(entry['img_path']))
        for split in splits.values()
        for entry in split.entries
        if entry.get('img_path') is not None
    ]
    digests: dict[str, str] = {}
    report = diagnostics.warn
    if compare_content:
        digests = _compute_digests([path for _, path in paths])
        report = diagnostics.error
    first_seen: dict[str, tuple[str, str]] = {}
    for split, path in paths:
        digest = digests.get(path, path)
        group, other = first_seen.setdefault(digest, (split.group, path))
        if group != split.group:
            report(
                split.name,
                f'an image is also in {group}',
                'remove it from one of the two splits',
                example=path if path == other else f'{path} = {other}',
            )


def _compute_digests(paths: Sequence[str]) -> dict[str, str]:
    """Returns a digest of the content of local files of the same size."""
    by_size: dict[int, set[str]] = {}
    for path in paths:
        if '://' not in path and Path(path).is_file():
            by_size.setdefault(Path(path).stat().st_size, set()).add(path)
    return {
        path: hashlib.sha1(Path(path).read_bytes()).hexdigest()
        for same in by_size.values()
        if len(same) > 1
        for path in same
    }
