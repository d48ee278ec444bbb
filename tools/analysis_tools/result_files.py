"""Result files of long experiments, written atomically by one process."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmfaseg
from mmfaseg.utils.atomic_write import atomic_write

SOURCES = ('*.py', '*.cpp', '*.cu', '*.h')


class LockedError(Exception):
    """Another process works on the same results."""


def read_json(path: Path) -> Any:
    """Return the contents of a file, None if it is not there."""
    return json.loads(path.read_text()) if path.exists() else None


def write_json(path: Path, value: Any) -> None:
    """Write a file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + '\n')


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, on systems that can.

    The system drops the lock when the process ends, however it ends.

    Raises:
        LockedError: if another process has it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / 'lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockedError(
                f'another process writes to {folder}: wait for it, end it, or '
                'choose another --out'
            ) from error
        yield


def code_digest() -> str:
    """Return a digest of the sources of the package that is imported."""
    folder = Path(mmfaseg.__file__).parent
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(folder.rglob(pattern)):
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
