"""A split of a config, as its data set lists it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from ...utils.diagnostics import Diagnostics
from ...utils.type_name import type_name

WRAPPERS = ('RepeatDataset', 'ClassBalancedDataset', 'MultiImageMixDataset')
LOAD_LABELS = ('LoadAnnotations', 'LoadCheckedAnnotations')
MAX_LISTED = 100000


@dataclass(frozen=True)
class Split:
    """What one split of a config holds.

    Attributes:
        name (str): ``'train'``, ``'val'`` or ``'test'``, with a number where
            several data sets are joined.
        group (str): the same without the number.
        key (str): where its settings stand in the config.
        classes (tuple[str, ...]): names of the classes.
        palette (Sequence): their colours.
        ignore_index (int): label of pixels that belong to no class.
        reduce_zero_label (bool): whether label 0 is ignored and the others
            count from 1.
        pipeline (Sequence): its transforms.
        entries (Sequence[dict]): what the data set lists.
    """

    name: str
    group: str
    key: str
    classes: tuple[str, ...]
    palette: Sequence
    ignore_index: int
    reduce_zero_label: bool
    pipeline: Sequence
    entries: Sequence[dict]

    @property
    def skips(self) -> bool:
        """Whether a loading step has ``on_error='skip'``."""
        return any(
            isinstance(step, Mapping) and step.get('on_error') == 'skip'
            for step in self.pipeline
        )

    def step(self, kinds: Sequence[str]) -> Mapping | None:
        """Returns the first step of one of these classes, None without."""
        for step in self.pipeline:
            if isinstance(step, Mapping) and type_name(step) in kinds:
                return step
        return None


def read_splits(
    cfg: Config, names: Sequence[str], diagnostics: Diagnostics
) -> dict[str, Split]:
    """Returns the splits that can be built; tells of the others.

    Args:
        cfg (Config): of a semantic segmentor.
        names (Sequence[str]): of ``'train'``, ``'val'``, ``'test'``.
        diagnostics (Diagnostics): gets what is wrong.
    """
    splits: dict[str, Split] = {}
    seen: list[Any] = []
    for name in names:
        loader = cfg.get(f'{name}_dataloader')
        if loader is None or loader.dataset in seen:
            continue
        seen.append(loader.dataset)
        parts = _unwrap(loader.dataset, f'{name}_dataloader.dataset')
        for number, (key, settings) in enumerate(parts):
            label = name if len(parts) == 1 else f'{name} {number + 1}'
            split = _build(label, name, key, settings, diagnostics)
            if split is not None:
                splits[label] = split
    return splits


def _unwrap(settings: Mapping, key: str) -> list[tuple[str, Mapping]]:
    """Returns the data sets in a wrapper, and where they stand."""
    kind = type_name(settings)
    if kind in WRAPPERS:
        return _unwrap(settings['dataset'], f'{key}.dataset')
    if kind == 'ConcatDataset':
        return [
            part
            for number, each in enumerate(settings['datasets'])
            for part in _unwrap(each, f'{key}.datasets.{number}')
        ]
    return [(key, settings)]


def _build(
    name: str,
    group: str,
    key: str,
    settings: Mapping,
    diagnostics: Diagnostics,
) -> Split | None:
    try:
        dataset = DATASETS.build(
            # mmengine cannot serialize an empty list
            dict(settings, pipeline=[], serialize_data=False)
        )
        entries = [dataset.get_data_info(i) for i in range(len(dataset))]
    except Exception as error:
        # whatever a data set of any kind may raise
        diagnostics.error(
            name,
            f'the data set cannot be built: {type(error).__name__}: {error}',
            _suggest_path_fix(settings, key),
        )
        return None
    if not entries:
        diagnostics.error(
            name, 'no image was found', _suggest_path_fix(settings, key)
        )
    return Split(
        name=name,
        group=group,
        key=key,
        classes=tuple(dataset.metainfo.get('classes') or ()),
        palette=[
            np.asarray(x).tolist() for x in dataset.metainfo.get('palette', ())
        ],
        ignore_index=getattr(dataset, 'ignore_index', 255),
        reduce_zero_label=getattr(dataset, 'reduce_zero_label', False),
        pipeline=settings.get('pipeline', ()),
        entries=entries,
    )


def _suggest_path_fix(settings: Mapping, key: str) -> str:
    """Returns what to change where no image was found."""
    root = settings.get('data_root') or ''
    if root and not Path(root).is_dir():
        return f'there is no folder {root!r}: set {key}.data_root'
    prefix = (settings.get('data_prefix') or {}).get('img_path') or ''
    listed = settings.get('ann_file') or ''
    if listed and not Path(root, listed).is_file():
        return f'there is no file {Path(root, listed)}: set {key}.ann_file'
    folder = Path(root, prefix)
    if not folder.is_dir():
        return f'there is no folder {folder}: set {key}.data_prefix.img_path'
    suffixes = count_suffixes(folder)
    if not suffixes:
        return f'{folder} is empty'
    told = ', '.join(f'{count} {x}' for x, count in suffixes.items())
    most = max(suffixes, key=lambda x: suffixes[x])
    return f'{folder} holds {told}: set {key}.img_suffix={most!r}?'


@lru_cache(maxsize=64)
def count_suffixes(folder: Path) -> dict[str, int]:
    """Returns how many files of a folder have each suffix, most first."""
    counts: dict[str, int] = {}
    for number, path in enumerate(folder.rglob('*')):
        if number >= MAX_LISTED:
            break
        if path.is_file() and not path.name.startswith('.'):
            counts[path.suffix] = counts.get(path.suffix, 0) + 1
    return dict(sorted(counts.items(), key=lambda x: -x[1]))
