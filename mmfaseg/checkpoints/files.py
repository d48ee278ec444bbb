"""Reading and writing of checkpoints without running what they hold."""

import codecs
import json
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ..utils.atomic_write import atomic_write
from .archive_scan import BEGIN
from .untrusted import check_old_file, explained, load_untrusted

SUFFIXES = ('.pth', '.safetensors')
# where programs keep the weights in a checkpoint
STATE_KEYS = ('state_dict', 'model')
PARALLEL = 'module.'  # of a model wrapped for several processes


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Returns the weights in a checkpoint.

    Args:
        path (str | Path): a ``.safetensors`` file, a file of ``torch.save``,
            or a plain pickle of NumPy arrays, as in detectron2's model zoo.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is none of these, or holds more than plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    content = _read(path)
    for key in STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(
            content.get(key), Mapping
        ):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f'{path} holds no table of weights')
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
    """Writes a checkpoint of weights alone.

    Args:
        path (str | Path): its suffix, ``.pth`` or ``.safetensors``, tells
            the format.
        state (Mapping[str, Tensor]): the weights.
        meta (Mapping[str, Any]): what to remember about them, plain values.
        key (str): where the weights are in a ``.pth`` file; detectron2 looks
            at ``'model'``.

    Raises:
        ValueError: if the suffix is another one.
    """
    path = Path(path)
    check_target(path)
    # copies, so that no storage is shared or larger than what is in use
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
    """Refuses what :func:`write_state` cannot or should not write.

    Args:
        path (Path): where to write.
        source (Path, optional): what is read, which must stay.

    Raises:
        ValueError: if the suffix is unknown, the folder is not there, or the
            path is a folder or the source.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f'{path} must end with one of {SUFFIXES}, which tells the format'
        )
    if path.is_dir():
        raise ValueError(f'{path} is a folder: name a file in it')
    if not path.parent.is_dir():
        raise ValueError(f'{path.parent} is no folder: make it first')
    if source is not None and path.exists() and path.samefile(source):
        raise ValueError(f'{path} is the source: name another file')


def _read(path: Path) -> Any:
    if path.suffix == '.safetensors':
        with explained(path):
            return load_file(path)
    with explained(path), path.open('rb') as file:
        if file.read(len(BEGIN)) != BEGIN:
            check_old_file(path, 1)
            file.seek(0)
            content = _PlainUnpickler(file, encoding='latin1').load()
            if not isinstance(content, int):  # torch.save began with one
                return content
    return load_untrusted(path)


class _PlainUnpickler(pickle.Unpickler):
    """Loads containers, strings, numbers and NumPy arrays, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns one of the functions that arrays are made with."""
        allowed = _functions_of_arrays()
        if f'{module}.{name}' not in allowed:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}')
        return allowed[f'{module}.{name}']


@cache
def _functions_of_arrays() -> dict[str, Any]:
    """Returns what a pickle of arrays refers to, by its full name."""
    allowed: dict[str, Any] = {
        'collections.OrderedDict': OrderedDict,
        '_codecs.encode': codecs.encode,
        'builtins.bytes': bytes,  # of nothing: the check allows no other
    }
    for numeric in ('numpy.core.numeric', 'numpy._core.numeric'):
        from_buffer = np.empty(0).__reduce_ex__(5)[0]
        allowed[f'{numeric}._frombuffer'] = from_buffer
    for entry in torch.serialization.get_safe_globals():
        if isinstance(entry, tuple) and entry[1].startswith('numpy.'):
            allowed[entry[1]] = entry[0]
    return allowed


def _as_tensor(path: Path, name: object, value: object) -> Tensor:
    if (
        isinstance(value, np.ndarray | np.generic)
        and value.dtype.kind in 'biuf'
    ):
        native = value.dtype.newbyteorder('=')
        value = torch.from_numpy(np.array(value, dtype=native))
    if not isinstance(name, str) or not isinstance(value, Tensor):
        raise ValueError(
            f'{path} holds {name!r} of type {type(value).__name__} among '
            'its weights'
        )
    return value
