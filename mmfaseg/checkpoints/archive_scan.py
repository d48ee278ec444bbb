"""Whether an archive of torch.save is what it seems to be.

Two programs read it: Python here, and a library of PyTorch's. All that they
could see differently is refused.
"""

import struct
import zipfile
from pathlib import Path

from .pickle_scan import check_pickle
from .pickle_values import UntrustedError

BEGIN = b'PK\x03\x04'  # PyTorch takes a file for an archive by this
_END, _END_64, _LOCATOR = b'PK\x05\x06', b'PK\x06\x06', b'PK\x06\x07'
_FULL = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)  # told in the larger record


def check_archive(path: Path) -> None:
    """Refuses an archive that grows when it is read, or has two faces.

    Args:
        path (Path): of a file that begins as an archive.

    Raises:
        UntrustedError: if it is not as torch.save writes it, or a pickle in
            it is refused by :func:`check_pickle`.
        ValueError, LookupError, zipfile.BadZipFile: if it is damaged.
    """
    size = path.stat().st_size
    _check_end(path, size)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise UntrustedError(
                    f'{entry.filename} in it is compressed, which torch.save '
                    f'never does, and would be {entry.file_size} bytes'
                )
            if entry.flag_bits & 1 or entry.orig_filename != entry.filename:
                raise UntrustedError(f'{entry.filename!r} in it is unusual')
        names = {entry.filename.lower() for entry in entries}
        declared = sum(max(x.file_size, x.compress_size) for x in entries)
        if declared > size:
            raise UntrustedError(
                f'its entries would be {declared} bytes, more than it has'
            )
        if len(names) < len(entries) or not entries:
            raise UntrustedError('two entries in it have one name')
        if min(x.header_offset for x in entries):
            raise UntrustedError('something stands before its first entry')
        storages = {entry.filename.partition('/data/')[2] for entry in entries}
        for entry in entries:
            if entry.filename.lower().endswith('.pkl'):
                with archive.open(entry) as file:
                    check_pickle(file, size, storages)


def _check_end(path: Path, size: int) -> None:
    """Its directory has to be where both programs look for it."""
    with path.open('rb') as file:
        file.seek(max(size - 98, 0))
        tail = file.read()
    if len(tail) < 22 or tail[-22:-18] != _END or tail[-2:] != b'\0\0':
        raise UntrustedError('it does not end as an archive does')
    small = struct.unpack('<4H2I', tail[-18:-2])
    if small[0] or small[1]:
        raise UntrustedError('it is one of several parts')
    fields, place = small[2:], size - 22
    if tail[-42:-38] == _LOCATOR:
        place = size - 98
        _, told, _ = struct.unpack('<IQI', tail[-38:-22])
        if told != place or tail[:4] != _END_64:
            raise UntrustedError('its directory is at two places')
        large = struct.unpack('<4Q', tail[24:56])
        for one, other, full in zip(fields, large, _FULL, strict=True):
            if one not in (other, full):
                raise UntrustedError('it has two directories')
        fields = large
    if fields[0] != fields[1] or fields[2] + fields[3] != place:
        raise UntrustedError('its directory does not stand before its end')
