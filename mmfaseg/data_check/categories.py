"""Check of the class names of detectors against COCO annotation files."""

import json
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from ..utils.config_classes import dataset_metainfo
from ..utils.diagnostics import Diagnostics
from .split import unwrap_datasets

MAX_LISTED = 10


def check_categories(cfg: Config, diagnostics: Diagnostics) -> None:
    """Reports class names that do not match the categories.

    mmdet selects the categories by name, in the order of the file. A class
    without a category is never trained, which the losses do not show.

    Args:
        cfg (Config): config of a detector.
        diagnostics (Diagnostics): collects the errors and warnings.
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
            classes = meta.get('classes') or ()
            is_remote = settings.get('backend_args') or '://' in root
            if is_remote or path.suffix != '.json' or (path, classes) in seen:
                continue
            seen.append((path, classes))
            names = _read_categories(path, place, diagnostics)
            if names is not None and classes:
                _compare(place, path, tuple(classes), names, diagnostics)


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
    if len(missing) == len(classes):
        diagnostics.error(
            place,
            f'no category has the name of one of the {len(classes)} classes, '
            f'such as {classes[0]!r}: nothing would be learned',
            remedy,
        )
    elif missing:
        diagnostics.warn(
            place,
            f'{len(missing)} of {len(classes)} classes have no category: '
            f'{", ".join(map(repr, missing[:MAX_LISTED]))}',
            remedy,
        )
    common = [x for x in classes if x in names]
    ordered = [x for x in names if x in common]
    if common != ordered:
        diagnostics.error(
            place,
            f'the classes have another order than the categories, and mmdet '
            f'would exchange their names: {common[:MAX_LISTED]} and '
            f'{ordered[:MAX_LISTED]}',
            remedy,
        )
