"""The whole examination, and the part of it that takes seconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ...utils.diagnostics import Diagnostic, Diagnostics
from ...visualization import spread_indices
from .census import Census, check_binary_masks, check_census
from .duplicates import check_duplicates
from .pictures import check_pictures
from .settings import check_settings
from .split import Split, read_splits

SPLITS = ('train', 'val', 'test')
QUICK = 8  # pictures of a split that are read before training


@dataclass(frozen=True)
class Examination:
    """What the doctor found.

    Attributes:
        diagnostics (Sequence[Diagnostic]): errors first.
        splits (dict[str, Split]): those that could be built.
        censuses (dict[str, Census]): what their pictures hold.
    """

    diagnostics: Sequence[Diagnostic]
    splits: dict[str, Split]
    censuses: dict[str, Census]

    @property
    def errors(self) -> list[Diagnostic]:
        """What has to be mended before training."""
        return [x for x in self.diagnostics if x.is_error]


def check_dataset(
    cfg: Config,
    splits: Sequence[str] = SPLITS,
    limit: int | None = None,
    tell: Callable[[str, int, int], None] | None = None,
) -> Examination:
    """Looks for what would make training fail or learn something wrong.

    Args:
        cfg (Config): of a semantic segmentor.
        splits (Sequence[str]): of ``'train'``, ``'val'``, ``'test'``.
        limit (int, optional): read at most so many pictures of each split,
            spread over it, and compare names of pictures only.
        tell (Callable, optional): is given the split, how many of its
            pictures are read and how many are to be.

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
    check_settings(cfg, found, diagnostics, with_colours=limit is None)
    check_duplicates(found, diagnostics, read=limit is None)
    censuses = {}
    for name, split in found.items():
        census = censuses[name] = Census(len(split.classes))
        indices = list(range(len(split.entries)))
        if limit is not None and len(indices) > limit:
            indices = spread_indices(len(indices), limit)
        for done in check_pictures(split, indices, diagnostics, census):
            if tell is not None:
                tell(name, done, len(indices))
    check_binary_masks(found, censuses, diagnostics)
    if limit is None:
        for name, split in found.items():
            check_census(split, censuses[name], diagnostics)
    return Examination(diagnostics.list(), found, censuses)
