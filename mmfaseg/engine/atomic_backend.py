"""Atomic file writes."""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

ATOMIC = 'mmfaseg.atomic'
PART = '.part'  # ends what is being written


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, written beside their place and then moved.

    A process that is killed while it writes leaves the file as it was, and
    perhaps one whose name begins with ``.`` and ends with ``.part``. Choose
    it by ``backend_args=dict(backend='mmfaseg.atomic')``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes a file.

        Raises:
            OSError: if it cannot be written, such as for want of space; a
                file of this name stays as it was.
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
                f'no room for {len(obj) / 2**20:.0f} MiB of {path}: '
                f'{os.strerror(error.errno)}. What was there before is as it '
                'was; make room and go on with --resume',
            ) from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Writes a file of text; see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


def _sync_folder(folder: Path) -> None:
    """Lets the new name survive a loss of power, where systems can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_partial_files(folder: str | Path) -> None:
    """Removes partial files of processes that were killed while writing."""
    for path in Path(folder).glob(f'.*{PART}'):
        path.unlink(missing_ok=True)


def _umask() -> int:
    """Returns the mask of new files, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


register_backend(ATOMIC, AtomicLocalBackend, force=True)
