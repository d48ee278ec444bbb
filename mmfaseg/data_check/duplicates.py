"""Check for images that occur in more than one split."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..utils.diagnostics import Diagnostics
from .split import Split


def check_duplicates(
    splits: Mapping[str, Split],
    diagnostics: Diagnostics,
    compare_content: bool = True,
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
