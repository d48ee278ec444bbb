"""File backend for mmengine with atomic writes."""

import errno
import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from ..utils.atomic_write import atomic_write

ATOMIC = 'mmfaseg.atomic'


class AtomicLocalBackend(LocalBackend):
    """mmengine's local file backend with atomic writes.

    If a process is killed while writing, the previous file stays unchanged.
    Select the backend with ``backend_args=dict(backend='mmfaseg.atomic')``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes a file.

        Raises:
            OSError: if writing fails, for example because the disk is full.
                The previous file stays unchanged.
        """
        try:
            with atomic_write(filepath) as path:
                path.write_bytes(obj)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise OSError(
                error.errno,
                f'cannot write {len(obj) / 2**20:.0f} MiB to {filepath}: '
                f'{os.strerror(error.errno)}. Previous files are unchanged; '
                'free some space and continue with --resume',
            ) from error

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Writes a text file; see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


register_backend(ATOMIC, AtomicLocalBackend, force=True)
