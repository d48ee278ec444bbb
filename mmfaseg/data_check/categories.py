"""Check of the class names of detectors against COCO annotation files."""

import json
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from ..utils.config_classes import (
    dataset_metainfo,
    find_class,
    unwrap_datasets,
)
from ..utils.diagnostics import Diagnostics

MAX_LISTED = 10


def check_categories(cfg: Config, diagnostics: Diagnostics) -> None:
    """Reports class names that do not match the categories.

    mmdet selects the categories by name and labels them in the order of the
    file. A class without a category is never trained, which the losses do not
    show. Each annotation file is read once more than by the training, which
    takes seconds for COCO.
    """
    seen: list[tuple] = []
    for name in ('train', 'val'):
        loader = cfg.get(f'{name}_dataloader')
        if loader is None:
            continue
        key = f'{name}_dataloader.dataset'
        for place, settings in unwrap_datasets(loader.dataset, key):
            root = settings.get('data_root') or ''
            path = Path(root, settings.get('ann_file') or '')
            meta = dataset_metainfo(settings, cfg.get('default_scope'))
            classes = tuple(meta.get('classes') or ())
            is_remote = settings.get('backend_args') or '://' in root
            if (
                is_remote
                or path.suffix != '.json'
                or (path, classes) in seen
                or not _selects_by_name(settings, cfg.get('default_scope'))
            ):
                continue
            seen.append((path, classes))
            names = _read_categories(path, place, diagnostics)
            if names is not None and classes:
                _compare(place, path, classes, names, diagnostics)


def _selects_by_name(settings: Mapping, scope: str) -> bool:
    """Returns whether a dataset reads the categories as CocoDataset does."""
    from mmdet.datasets import CocoDataset, CocoPanopticDataset

    kind = settings.get('type')
    if isinstance(kind, str):
        kind = find_class(kind, 'dataset', scope)
    return getattr(kind, 'load_data_list', None) in (
        CocoDataset.load_data_list,
        CocoPanopticDataset.load_data_list,
    )


def _read_categories(
    path: Path, place: str, diagnostics: Diagnostics
) -> list[str] | None:
    """Returns the names of the categories, or None if there are none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        diagnostics.error(
            place,
            f'the annotations cannot be read: {error}',
            f'set {place}.data_root and {place}.ann_file',
        )
        return None
    if not isinstance(content, Mapping) or 'categories' not in content:
        return None  # not a COCO file
    return [str(x.get('name')) for x in content['categories']]


def _compare(
    place: str,
    path: Path,
    classes: tuple[str, ...],
    names: list[str],
    diagnostics: Diagnostics,
) -> None:
    listed = ', '.join(repr(x) for x in names[:MAX_LISTED])
    if len(names) > MAX_LISTED:
        listed += f' and {len(names) - MAX_LISTED} more'
    remedy = (
        f'set {place}.metainfo=dict(classes=(...)) to names of the '
        f'categories in {path}, in their order: {listed}'
    )
    missing = [x for x in classes if x not in names]
    labeled = [x for x in names if x in classes]  # as 0, 1, ... by mmdet
    if len(missing) == len(classes):
        diagnostics.error(
            place,
            f'no category has the name of one of the {len(classes)} classes, '
            f'such as {classes[0]!r}: nothing would be learned',
            remedy,
        )
    elif labeled != list(classes[: len(labeled)]):
        diagnostics.error(
            place,
            'mmdet would label the categories in the order of the file, '
            f'{labeled[:MAX_LISTED]}, with the names '
            f'{list(classes[: len(labeled)])[:MAX_LISTED]}',
            remedy,
        )
    elif missing:
        diagnostics.warn(
            place,
            f'{len(missing)} of {len(classes)} classes have no category: '
            f'{", ".join(map(repr, missing[:MAX_LISTED]))}',
            remedy,
        )
