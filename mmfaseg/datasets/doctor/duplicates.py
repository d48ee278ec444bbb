"""The same picture in two splits: results would be too good."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from .finding import Findings
from .split import Split


def check_duplicates(
    splits: Mapping[str, Split], findings: Findings, read: bool = True
) -> None:
    """Looks for pictures of one split in another.

    Args:
        splits (Mapping[str, Split]): by name.
        findings (Findings): gets what is wrong.
        read (bool): compare what is in the files, else only their names.
    """
    first_seen: dict[str, tuple[str, str]] = {}
    for split in splits.values():
        for entry in split.entries:
            path = str(entry.get('img_path'))
            mark = _mark(path) if read else path
            where, other = first_seen.setdefault(mark, (split.name, path))
            if where == split.name:
                continue
            findings.error(
                split.name,
                f'a picture is in {where}, too',
                'take it out of one of the two',
                example=path if path == other else f'{path} = {other}',
            )


def _mark(path: str) -> str:
    """Returns what tells the content of a file, its name if it has none."""
    if '://' in path or not Path(path).is_file():
        return path
    return hashlib.sha1(Path(path).read_bytes()).hexdigest()
