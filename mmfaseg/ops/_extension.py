"""Loading of the compiled operators and selection of the backend.

The environment variable ``MMFASEG_OPS_BACKEND`` is read at import. ``auto``,
the default, uses the operators compiled for the device of a tensor.
``reference`` uses the PyTorch reference implementation and loads no extension.
"""

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor

BACKENDS = ('auto', 'reference')


def _check_backend(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(
            f'{source}={name!r} is not a backend: use {" or ".join(BACKENDS)}'
        )
    return name


def _load() -> tuple[frozenset[str], str | None]:
    """Returns the devices with compiled operators, and why others have none.

    The reason is None if every library was loaded.
    """
    if _backend == 'reference':
        return frozenset(), 'MMFASEG_OPS_BACKEND=reference'
    libraries = {'cpu': 'mmfaseg._C'}
    if torch.version.cuda is not None and find_spec('mmfaseg._C_cuda'):
        libraries['cuda'] = 'mmfaseg._C_cuda'
    if find_spec('mmfaseg._C') is None:
        return frozenset(), 'mmfaseg is installed without its extension'
    devices: set[str] = set()
    for device, library in libraries.items():
        try:
            importlib.import_module(library)
        except ImportError as error:
            reason = f'{library} does not load with this PyTorch: {error}'
            warnings.warn(
                f'mmfaseg uses its PyTorch reference on {device}, because '
                f'{reason}. Reinstall mmfaseg, or set '
                'MMFASEG_OPS_BACKEND=reference.',
                stacklevel=2,
            )
            return frozenset(devices), reason
        devices.add(device)
    return frozenset(devices), None


_backend = _check_backend(
    os.environ.get('MMFASEG_OPS_BACKEND', 'auto'), 'MMFASEG_OPS_BACKEND'
)
_devices, _reason = _load()


def extension_is_loaded() -> bool:
    """Returns whether ``torch.ops.mmfaseg`` has compiled operators."""
    return bool(_devices)


def reference_requested() -> bool:
    """Returns whether the backend is set to ``reference``."""
    return _backend == 'reference'


def use_compiled(tensor: Tensor) -> bool:
    """Returns whether the compiled operators are used for a tensor."""
    return not reference_requested() and tensor.device.type in _devices


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Selects the backend of all operators within a ``with`` block.

    Args:
        name (str): ``'auto'`` or ``'reference'``.

    Raises:
        ValueError: if the backend is unknown.
    """
    global _backend
    previous = _backend
    _backend = _check_backend(name, 'backend')
    try:
        yield
    finally:
        _backend = previous


def compiled_devices() -> tuple[str, ...]:
    """Returns the device types for which compiled operators are used."""
    return () if reference_requested() else tuple(sorted(_devices))


def describe_backend() -> str:
    """Returns a description of the active backend in one line."""
    devices = ', '.join(compiled_devices())
    if reference_requested():
        return 'PyTorch reference, as requested'
    if not devices:
        return f'PyTorch reference, because {_reason}'
    text = f'compiled on {devices}, PyTorch reference elsewhere'
    return text if _reason is None else f'{text}: {_reason}'
