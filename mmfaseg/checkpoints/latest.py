"""The checkpoint that an interrupted training can go on from."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mmengine.logging import print_log


def find_latest_checkpoint(work_dir: str | Path) -> str | None:
    """Returns the latest checkpoint of a work dir that is complete.

    That is the one that mmengine's file ``last_checkpoint`` names. If that
    file is empty, or what it names is gone or was cut off while it was
    written, it is the one of most iterations or epochs that is complete.

    Args:
        work_dir (str | Path): of a training.

    Returns:
        str | None: its path, or None if there is none.
    """
    for path in _candidates(Path(work_dir)):
        # the directory of the archive, which torch.save writes at its end
        if zipfile.is_zipfile(path):
            return str(path)
        print_log(
            f'{path} is not complete: looking for an older one',
            logger='current',
        )
    return None


def _candidates(folder: Path) -> Iterator[Path]:
    """Yields files, the best one first."""
    pointer = folder / 'last_checkpoint'
    named = pointer.read_text().strip() if pointer.is_file() else ''
    if named:
        # a work dir may have been moved since
        for path in (Path(named), folder / Path(named).name):
            if path.is_file():
                yield path
                break
    found = [
        (int(match[1]), path)
        for path in folder.glob('*.pth')
        if (match := re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', path.name))
    ]
    for _, path in sorted(found, reverse=True):
        if path.name != Path(named).name:
            yield path
