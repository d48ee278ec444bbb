"""Atomic file writes."""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

ATOMIC = 'mmfaseg.atomic'
PART = '.part'  # suffix of temporary files


class AtomicLocalBackend(LocalBackend):
    """A local file backend with atomic writes.

    Data are written to a temporary file, which then replaces the target. A
    process that is killed while writing leaves the previous file, and perhaps
    a temporary file whose name starts with ``.`` and ends with ``.part``. Use
    it with ``backend_args=dict(backend='mmfaseg.atomic')``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes a file.

        Raises:
            OSError: if it cannot be written, for example because the disk is
                full; an existing file is not changed.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(PART, f'.{path.name}.', path.parent)
        try:
            with open(handle, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(part, 0o666 & ~_umask())
            os.replace(part, path)
            _sync_folder(path.parent)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise OSError(
                error.errno,
                f'cannot write {len(obj) / 2**20:.0f} MiB to {path}: '
                f'{os.strerror(error.errno)}. An existing file was not '
                'changed; free disk space and continue with --resume',
            ) from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Writes a text file; see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


def _sync_folder(folder: Path) -> None:
    """Flushes the directory entry to disk, where the system supports it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_partial_files(folder: str | Path) -> None:
    """Removes temporary files of processes that were killed."""
    for path in Path(folder).glob(f'.*{PART}'):
        path.unlink(missing_ok=True)


def _umask() -> int:
    """Returns the umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


register_backend(ATOMIC, AtomicLocalBackend, force=True)
