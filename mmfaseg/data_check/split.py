"""Splits of a config, as their datasets list them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from ..utils.config_classes import WRAPPERS, unwrap_datasets
from ..utils.diagnostics import Diagnostics
from ..utils.type_name import type_name

MAX_LISTED_FILES = 100000


@dataclass(frozen=True)
class Split:
    """One split of a config.

    Attributes:
        name (str): ``'train'``, ``'val'`` or ``'test'``; numbered where
            several datasets are concatenated.
        group (str): the name without the number.
        key (str): config key of the dataset.
        classes (tuple[str, ...]): names of the classes.
        palette (Sequence): their colors.
        ignore_index (int): label of ignored pixels.
        reduce_zero_label (bool): whether label 0 is ignored and the classes
            start at 1.
        pipeline (Sequence): transforms of the dataset.
        entries (Sequence[dict]): its data list.
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

    def step(self, names: Sequence[str]) -> Mapping | None:
        """Returns the first step of one of these types, or None."""
        for step in self.pipeline:
            if isinstance(step, Mapping) and type_name(step) in names:
                return step
        return None


def read_splits(
    cfg: Config, names: Sequence[str], diagnostics: Diagnostics
) -> dict[str, Split]:
    """Returns the splits that can be built, and reports the others.

    A split that has the dataset of an earlier one is left out.
    """
    splits: dict[str, Split] = {}
    seen: list[Mapping] = []
    for name in names:
        loader = cfg.get(f'{name}_dataloader')
        if loader is None or loader.dataset in seen:
            continue
        seen.append(loader.dataset)
        num_built = 0
        parts = unwrap_datasets(loader.dataset, f'{name}_dataloader.dataset')
        for number, (key, settings) in enumerate(parts, 1):
            label = name if len(parts) == 1 else f'{name} {number}'
            split = _build(label, name, key, settings, diagnostics)
            if split is not None:
                splits[label] = split
                num_built += 1
        if num_built == len(parts):
            _check_wrapper(name, loader.dataset, diagnostics)
    return splits


def _check_wrapper(
    name: str, settings: Mapping, diagnostics: Diagnostics
) -> None:
    """Reports a wrapper that cannot be built around its datasets."""
    kind = type_name(settings)
    if kind != 'ConcatDataset' and kind not in WRAPPERS:
        return
    try:
        DATASETS.build(_without_pipelines(settings))
    except Exception as error:  # custom datasets may raise anything
        diagnostics.error(
            name,
            f'{kind} cannot be built: {type(error).__name__}: {error}',
            f'change {name}_dataloader.dataset, or use the wrapped dataset '
            'without it',
        )


def _without_pipelines(settings: Mapping) -> dict:
    """Returns the config of a dataset that lists its images only."""
    changed = dict(settings)
    if 'dataset' in changed:
        changed['dataset'] = _without_pipelines(changed['dataset'])
    elif 'datasets' in changed:
        changed['datasets'] = [
            _without_pipelines(x) for x in changed['datasets']
        ]
    else:
        # mmengine cannot serialize an empty list
        changed.update(pipeline=[], serialize_data=False)
    return changed


def _build(
    name: str,
    group: str,
    key: str,
    settings: Mapping,
    diagnostics: Diagnostics,
) -> Split | None:
    try:
        dataset = DATASETS.build(_without_pipelines(settings))
        entries = [dataset.get_data_info(i) for i in range(len(dataset))]
    except Exception as error:  # custom datasets may raise anything
        diagnostics.error(
            name,
            f'the dataset cannot be built: {type(error).__name__}: {error}',
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
    """Suggests what to change where no image was found."""
    root = settings.get('data_root') or ''
    ann_file = Path(root, settings.get('ann_file') or '')
    prefix = (settings.get('data_prefix') or {}).get('img_path') or ''
    folder = Path(root, prefix)
    if root and not Path(root).is_dir():
        return f'the folder {root!r} does not exist: set {key}.data_root'
    if settings.get('ann_file') and not ann_file.is_file():
        return f'the file {ann_file} does not exist: set {key}.ann_file'
    if not folder.is_dir():
        return (
            f'the folder {folder} does not exist: set '
            f'{key}.data_prefix.img_path'
        )
    counts = count_suffixes(folder)
    if not counts:
        return f'{folder} is empty: set {key}.data_prefix.img_path'
    suffix = next(iter(counts))
    remedy = f'set {key}.img_suffix={suffix!r}'
    if not suffix:
        remedy = 'add the suffix of the format, such as .png, to their names'
    return f'{folder} contains {list_suffixes(folder)}: {remedy}'


@lru_cache(maxsize=64)
def count_suffixes(folder: Path) -> dict[str, int]:
    """Returns the number of files by suffix, the most frequent first."""
    counts = Counter(
        path.suffix
        for path in islice(folder.rglob('*'), MAX_LISTED_FILES)
        if path.is_file() and not path.name.startswith('.')
    )
    return dict(counts.most_common())


def list_suffixes(folder: Path) -> str:
    """Returns for example ``'3 .png, 1 without suffix'``."""
    counts = count_suffixes(folder).items()
    return ', '.join(f'{n} {x or "without suffix"}' for x, n in counts)
