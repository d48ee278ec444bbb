"""The latest complete checkpoint in a work dir."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mmengine.logging import print_log


def find_latest_checkpoint(work_dir: str | Path) -> str | None:
    """Returns the latest complete checkpoint in a work dir.

    mmengine's file ``last_checkpoint`` names it. A file of this name in
    ``work_dir`` comes first, because the work dir may have been copied or
    moved. If the named checkpoint is missing or truncated, the complete one
    with the most iterations or epochs is returned; None if there is no
    checkpoint.

    Raises:
        ValueError: if there are checkpoints, but none is complete.
    """
    incomplete = []
    for path in _candidates(Path(work_dir)):
        # torch.save writes the directory of the archive last
        if zipfile.is_zipfile(path):
            return str(path)
        print_log(
            f'{path} is incomplete: trying an older checkpoint',
            logger='current',
        )
        incomplete.append(str(path))
    if incomplete:
        raise ValueError(
            f'no checkpoint in {work_dir} is complete: '
            f'{", ".join(incomplete)}. Delete them to start from the beginning'
        )
    return None


def _candidates(folder: Path) -> Iterator[Path]:
    """Yields the checkpoints, the latest first."""
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
