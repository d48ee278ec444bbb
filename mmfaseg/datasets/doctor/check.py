"""Checks of a dataset: all images, or the part that takes seconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ...utils.diagnostics import Diagnostic, Diagnostics
from ...visualization import spread_indices
from .duplicates import check_duplicates
from .images import check_images
from .label_statistics import (
    LabelStatistics,
    check_binary_masks,
    check_label_statistics,
)
from .settings import check_settings
from .split import Split, read_splits

SPLITS = ('train', 'val', 'test')
NUM_QUICK_IMAGES = 8  # images of a split that are read before training


@dataclass(frozen=True)
class DatasetReport:
    """Result of :func:`check_dataset`.

    Attributes:
        diagnostics (Sequence[Diagnostic]): errors first.
        splits (dict[str, Split]): those that could be built.
        statistics (dict[str, LabelStatistics]): their class frequencies.
    """

    diagnostics: Sequence[Diagnostic]
    splits: dict[str, Split]
    statistics: dict[str, LabelStatistics]

    @property
    def errors(self) -> list[Diagnostic]:
        """Problems that have to be fixed before training."""
        return [x for x in self.diagnostics if x.is_error]


def check_dataset(
    cfg: Config,
    splits: Sequence[str] = SPLITS,
    limit: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> DatasetReport:
    """Checks for problems that make training fail or give wrong results.

    Args:
        cfg (Config): of a semantic segmentor.
        splits (Sequence[str]): of ``'train'``, ``'val'``, ``'test'``.
        limit (int, optional): read at most so many images of each split,
            spread over it, and compare names of images only.
        progress (Callable, optional): called with the split, the number of
            images read, and their total.

    Raises:
        ValueError: if the config is of no semantic segmentor.
    """
    if 'decode_head' not in cfg.get('model', {}):
        raise ValueError(
            'the config has no model.decode_head: the doctor knows semantic '
            'segmentation'
        )
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    diagnostics = Diagnostics()
    found = read_splits(cfg, splits, diagnostics)
    check_settings(cfg, found, diagnostics, check_colours=limit is None)
    check_duplicates(found, diagnostics, read=limit is None)
    statistics = {}
    for name, split in found.items():
        stats = statistics[name] = LabelStatistics(len(split.classes))
        indices = list(range(len(split.entries)))
        if limit is not None and len(indices) > limit:
            indices = spread_indices(len(indices), limit)
        for done in check_images(split, indices, diagnostics, stats):
            if progress is not None:
                progress(name, done, len(indices))
    check_binary_masks(found, statistics, diagnostics)
    if limit is None:
        for name, split in found.items():
            check_label_statistics(split, statistics[name], diagnostics)
    return DatasetReport(diagnostics.list(), found, statistics)
