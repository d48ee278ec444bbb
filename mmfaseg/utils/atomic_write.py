"""Atomic file writes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = '.part'  # part of the names of temporary files


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path whose file replaces ``path`` on exit.

    If the block raises, the temporary file is removed and ``path`` stays
    unchanged. The folder is created if needed. The temporary file is hidden,
    in the same folder and has the same suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f'.{path.stem}.{os.getpid()}{PARTIAL}{path.suffix}'
    temporary = path.with_name(name)
    try:
        yield temporary
        _sync(temporary, os.O_RDWR)
        temporary.replace(path)
        with suppress(OSError):  # not every file system syncs folders
            _sync(path.parent, os.O_RDONLY)
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial_files(folder: str | Path) -> None:
    """Removes temporary files of processes that were killed while writing."""
    for path in Path(folder).glob(f'.*{PARTIAL}*'):
        path.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
