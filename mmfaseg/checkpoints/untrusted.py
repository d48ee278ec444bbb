"""Checkpoints that somebody may have made to do harm.

PyTorch's safe loader runs nothing that a file asks for. It still lets a file
of a hundred bytes ask for all of the memory, or for a key that takes years to
hash. What is checked here first keeps the memory that a file takes near its
size, and its time to seconds.
"""

import mmap
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from .archive_scan import BEGIN, check_archive
from .pickle_scan import check_pickle
from .pickle_values import UntrustedError

OLD_PICKLES = 5  # that torch.save wrote one after the other before 1.6
LEAST_BYTES = 2**26  # that a tensor may have, however small the file
# what the loaders of PyTorch, NumPy and Python raise
_UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    SafetensorError,
    RuntimeError,
    MemoryError,
    OverflowError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    AssertionError,
    TypeError,
    struct.error,
)


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Says which file it is that cannot be read.

    Raises:
        UntrustedError: whatever goes wrong with its content.
    """
    try:
        yield
    except torch.OutOfMemoryError:  # of a GPU: no fault of the file
        raise
    except _UNREADABLE as error:
        # around which PyTorch tells at length how to run it all the same
        reason = error.__context__ or error
        text = (str(reason) or type(reason).__name__).splitlines()[0]
        raise UntrustedError(
            f'{path} cannot be read as weights: it is damaged, or holds '
            f'objects that only its own program may load. ({text})'
        ) from error


def load_untrusted(
    path: str | Path,
    map_location: Any = 'cpu',
    use_mmap: bool = False,
) -> Any:
    """Returns what ``torch.save`` wrote, tensors and plain data only.

    Args:
        path (str | Path): the file.
        map_location (Any): see :func:`torch.load`.
        use_mmap (bool): leave the tensors on the disk until they are read;
            not possible with files from before PyTorch 1.6, which are read.

    Raises:
        UntrustedError: if it is damaged, asks for more memory than it has
            bytes, or for anything to be run.
    """
    path = Path(path)
    with explained(path):
        with path.open('rb') as file:
            is_archive = file.read(4) == BEGIN
        if is_archive:
            check_archive(path)
        else:
            check_old_file(path)
        content = torch.load(
            path,
            map_location=map_location,
            mmap=use_mmap and is_archive,
            weights_only=True,
        )
        _check_sizes(content, max(path.stat().st_size, LEAST_BYTES))
    return content


def check_old_file(path: Path, most: int = OLD_PICKLES) -> None:
    """Checks the pickles at the begin of a file that is no archive.

    Args:
        path (Path): of the file.
        most (int): pickles that will be loaded.

    Raises:
        UntrustedError: if it is empty or a ``.tar``, and see
            :func:`check_pickle`.
    """
    size = path.stat().st_size
    if not size:
        raise UntrustedError('it is empty')
    if tarfile.is_tarfile(path):
        raise UntrustedError('it is a .tar, which PyTorch no longer writes')
    # a read of too many bytes gives what is there, and reserves no more
    with (
        path.open('rb') as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        for _ in range(most):
            check_pickle(content, size)  # type: ignore[arg-type]
            if content.tell() >= size:
                return


def _check_sizes(content: Any, limit: int) -> None:
    """Refuses tensors and arrays of more bytes than the file has."""
    for value in _leaves(content):
        size = value.nbytes
        if isinstance(value, Tensor):
            size = max(size, value.untyped_storage().nbytes())
        if size > limit:
            raise UntrustedError(
                f'it declares {tuple(value.shape)}, {size} bytes, more than '
                f'{limit}'
            )


def _leaves(content: Any) -> Iterator[Tensor | np.ndarray]:
    """Yields tensors and arrays, each once, however they are entangled."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (Tensor, np.ndarray)):
            yield value
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value
        elif hasattr(value, '__dict__') and not isinstance(value, type):
            waiting.append(vars(value))
