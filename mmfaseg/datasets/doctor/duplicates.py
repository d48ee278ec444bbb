"""The same image in two splits: results would be too good."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...utils.diagnostics import Diagnostics
from .split import Split


def check_duplicates(
    splits: Mapping[str, Split], diagnostics: Diagnostics, read: bool = True
) -> None:
    """Looks for images of one split in another.

    Data sets that are joined to one split may share images.

    Args:
        splits (Mapping[str, Split]): by name.
        diagnostics (Diagnostics): gets what is wrong.
        read (bool): compare what is in the files, and take what is found for
            an error; else only their names.
    """
    if len({split.group for split in splits.values()}) < 2:
        return
    paths = [
        (split, str(entry['img_path']))
        for split in splits.values()
        for entry in split.entries
        if entry.get('img_path') is not None
    ]
    marks = _contents(paths) if read else {}
    report = diagnostics.error if read else diagnostics.warn
    first_seen: dict[str, tuple[str, str]] = {}
    for split, path in paths:
        mark = marks.get(path, path)
        group, other = first_seen.setdefault(mark, (split.group, path))
        if group != split.group:
            report(
                split.name,
                f'an image is in {group}, too',
                'take it out of one of the two',
                example=path if path == other else f'{path} = {other}',
            )


def _contents(paths: Sequence[tuple[Split, str]]) -> dict[str, str]:
    """Returns a mark of the content of files that share their size."""
    by_size: dict[int, set[str]] = {}
    for _, path in paths:
        if '://' not in path and Path(path).is_file():
            by_size.setdefault(Path(path).stat().st_size, set()).add(path)
    return {
        path: hashlib.sha1(Path(path).read_bytes()).hexdigest()
        for same in by_size.values()
        if len(same) > 1
        for path in same
    }
