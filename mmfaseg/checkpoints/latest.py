"""The checkpoint that an interrupted training can go on from."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mmengine.logging import print_log


def find_latest_checkpoint(work_dir: str | Path) -> str | None:
    """Returns the latest checkpoint of a work dir that is complete.

    That is the one that mmengine's file ``last_checkpoint`` names: in this
    folder, as a work dir may have been copied or moved, else where the file
    says. If the file is empty, or what it names is gone or was cut off while
    it was written, it is the one of most iterations or epochs.

    Args:
        work_dir (str | Path): of a training.

    Returns:
        str | None: its path, or None if there is no checkpoint at all.

    Raises:
        ValueError: if there are checkpoints, and none is complete.
    """
    broken = []
    for path in _candidates(Path(work_dir)):
        # the directory of the archive, which torch.save writes at its end
        if zipfile.is_zipfile(path):
            return str(path)
        print_log(
            f'{path} is not complete: looking for an older one',
            logger='current',
        )
        broken.append(str(path))
    if broken:
        raise ValueError(
            f'no checkpoint of {work_dir} is complete: {", ".join(broken)}. '
            'Move them away to start anew'
        )
    return None


def _candidates(folder: Path) -> Iterator[Path]:
    """Yields files, the best one first."""
    pointer = folder / 'last_checkpoint'
    text = pointer.read_text(errors='replace') if pointer.is_file() else ''
    named = text.strip().strip('\0')
    found = [folder / Path(named).name, Path(named)] if named else []
    numbered = [
        (int(match[1]), path)
        for path in folder.glob('*.pth')
        if (match := re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', path.name))
    ]
    found += [path for _, path in sorted(numbered, reverse=True)]
    seen = set()
    for path in found:
        if path.is_file() and path.resolve() not in seen:
            seen.add(path.resolve())
            yield path
