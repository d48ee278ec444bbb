"""Reading and writing of checkpoint files.

Reading never runs code from a file.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ..utils.atomic_write import atomic_write
from .numpy_pickle import NumpyUnpickler

SUFFIXES = ('.pth', '.safetensors')
# where programs keep the weights in a checkpoint
STATE_KEYS = ('state_dict', 'model')
PARALLEL = 'module.'  # of a model wrapped for several processes


def read_checkpoint(
    path: str | Path, map_location: Any = 'cpu', use_mmap: bool = False
) -> Any:
    """Returns the content of a checkpoint.

    Args:
        path (str | Path): a ``.safetensors`` file, a file of ``torch.save``,
            or a ``.pkl`` file of NumPy arrays, as in detectron2's model zoo.
        map_location (Any): see :func:`torch.load`; for files of
            ``torch.save``.
        use_mmap (bool): read tensors from disk when they are used; for files
            of ``torch.save`` since PyTorch 1.6.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged, declares more bytes than it has,
            or contains objects other than tensors, arrays and plain data.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    try:
        return _load(path, map_location, use_mmap)
    except (OSError, torch.OutOfMemoryError):  # not caused by the file
        raise
    except Exception as error:  # invalid files raise many types
        # PyTorch's own message explains how to disable the safe loader
        reason = error.__context__ or error
        text = (str(reason) or type(reason).__name__).splitlines()[0]
        raise ValueError(
            f'{path} cannot be read as a checkpoint ({text}). If it is '
            'damaged, download it again; if it contains other objects than '
            'tensors and plain data, save its weights alone.'
        ) from error


def _load(path: Path, map_location: Any, use_mmap: bool) -> Any:
    if path.suffix == '.safetensors':
        with safe_open(path, 'pt') as file:
            meta = json.loads((file.metadata() or {}).get('meta', '{}'))
        return {'meta': meta, 'state_dict': load_file(path)}
    is_archive = zipfile.is_zipfile(path)
    if path.suffix == '.pkl' and not is_archive:
        with path.open('rb') as stream:
            content = NumpyUnpickler(stream, encoding='latin1').load()
        if not isinstance(content, int):  # torch.save began with one
            return content
    _check_declared_size(path, is_archive)
    return torch.load(
        path,
        map_location=map_location,
        mmap=use_mmap and is_archive,
        weights_only=True,
    )


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Returns the weights in a file, see :func:`read_checkpoint`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is not valid or contains no weights.
    """
    content = read_checkpoint(path)
    if isinstance(content, Mapping):
        found = [content.get(key) for key in STATE_KEYS]
        content = next((x for x in found if isinstance(x, Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f'{path} contains no dictionary of weights, at the top level or '
            f'under one of {STATE_KEYS}'
        )
    state = {name: _as_tensor(path, name, x) for name, x in content.items()}
    if all(name.startswith(PARALLEL) for name in state):
        return {name.removeprefix(PARALLEL): x for name, x in state.items()}
    return state


def write_state(
    path: str | Path,
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    key: str = 'state_dict',
) -> None:
    """Writes a checkpoint that contains weights only.

    Args:
        path (str | Path): its suffix, ``.pth`` or ``.safetensors``, selects
            the format.
        state (Mapping[str, Tensor]): the weights.
        meta (Mapping[str, Any]): metadata, plain values.
        key (str): key of the weights in a ``.pth`` file; detectron2 expects
            ``'model'``.

    Raises:
        ValueError: see :func:`check_target`.
    """
    path = Path(path)
    check_target(path)
    # copies, so that no storage is shared or larger than its tensor
    tensors = {
        name: x.detach().clone(memory_format=torch.contiguous_format)
        for name, x in state.items()
    }
    with atomic_write(path) as temporary:
        if path.suffix == '.safetensors':
            notes = {'format': 'pt', 'meta': json.dumps(dict(meta))}
            temporary.write_bytes(save(tensors, notes))
        else:
            torch.save({'meta': dict(meta), key: tensors}, temporary)


def check_target(path: Path, source: Path | None = None) -> None:
    """Checks whether :func:`write_state` can write to a path.

    Raises:
        ValueError: if the suffix is unsupported, the folder does not exist,
            or the path is a folder or the source.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f'{path} must end with one of {SUFFIXES}')
    if path.is_dir():
        raise ValueError(f'{path} is a folder: name a file in it')
    if not path.parent.is_dir():
        raise ValueError(f'folder {path.parent} does not exist: create it')
    if source is not None and path.exists() and path.samefile(source):
        raise ValueError(f'{path} is the source: name another file')


def _check_declared_size(path: Path, is_archive: bool) -> None:
    """Rejects files that declare more bytes than they have.

    Raises:
        ValueError: if the entries of the archive or the tensors are larger
            than the file.
    """
    size = path.stat().st_size
    storages: list[Any] = []
    declared = 0

    def check(num_bytes: int) -> None:
        if num_bytes > size:
            raise ValueError(
                f'its content has {num_bytes} bytes, but the file only {size}'
            )

    def count(storage: Any, location: str) -> Any:
        nonlocal declared
        declared += storage.nbytes()
        check(declared)
        storages.append(storage)
        return storage

    if is_archive:
        with zipfile.ZipFile(path) as archive:
            check(sum(entry.file_size for entry in archive.infolist()))
    if torch.__version__.startswith('2.6.'):
        return  # skip_data does not support torch.load there
    # storages take no memory as long as nothing is written to them
    with torch.serialization.skip_data():
        torch.load(path, map_location=count, weights_only=True)
    # tensors that are larger than their storages have enlarged them
    check(sum(storage.nbytes() for storage in storages))


def _as_tensor(path: str | Path, name: object, value: object) -> Tensor:
    if (
        isinstance(value, np.ndarray | np.generic)
        and value.dtype.kind in 'biuf'
    ):
        native = value.dtype.newbyteorder('=')
        value = torch.from_numpy(np.array(value, dtype=native))
    if not isinstance(name, str) or not isinstance(value, Tensor):
        raise ValueError(
            f'{path} contains {name!r} of type {type(value).__name__} among '
            'its weights; only tensors and numeric arrays are supported'
        )
    return value
