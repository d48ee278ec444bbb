"""Makes the OpenMMLab stack run on current PyTorch, in one place.

``import mmfaseg`` runs :func:`prepare_stack`: it checks what is installed,
makes ``mmcv.ops`` importable where mmcv comes without compiled operators, lets
the checkpoints of mmengine pass the safe loader of PyTorch, and no other, also
those that it downloads, teaches mmengine to read ``.safetensors`` files, and
offers mmdet what it takes from ``panopticapi``.

Nothing of the stack is imported above the functions: what is missing or too
old is to be named by the check, not by a failing import.
"""

import importlib
import json
import pickle
import sys
from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import Any, NoReturn

from .utils.panopticapi import offer_panopticapi
from .utils.stack_info import StackInfo, stack_info


def prepare_stack() -> None:
    """Check the stack and make it usable; a second call changes nothing.

    Raises:
        ImportError: If a package is missing or not supported, or if the
            compiled operators of mmcv do not load with this PyTorch.
    """
    info = stack_info()
    if info.has_compiled_mmcv_ops:
        _check_compiled_mmcv_ops(info)
    else:
        _import_mmcv_ops_uncompiled(info)
    _allow_mmengine_checkpoints()
    _read_safetensors_in_mmengine()
    _download_tensors_only()
    offer_panopticapi()


class _MissingExtension(ModuleType):
    """Stands in for ``mmcv._ext`` while ``mmcv.ops`` is imported.

    Every public attribute is a function that raises when it is called: the
    Python side of mmcv's operators can be imported, only their use fails.
    """

    def __init__(self, mmcv: str) -> None:
        super().__init__('mmcv._ext')
        self._mmcv = mmcv

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith('_'):
            raise AttributeError(name)
        message = (
            f'the operator {name!r} needs an mmcv with compiled operators, '
            f'and {self._mmcv} has none: build mmcv from source for this '
            'PyTorch, or use layers that do not call the operator.'
        )

        def missing_op(*args: Any, **kwargs: Any) -> NoReturn:
            raise RuntimeError(message)

        return missing_op


def _import_mmcv_ops_uncompiled(info: StackInfo) -> None:
    if 'mmcv.ops' in sys.modules:
        return
    placeholder = _MissingExtension(' '.join(info.packages['mmcv']))
    sys.modules['mmcv._ext'] = placeholder
    try:
        importlib.import_module('mmcv.ops')
    finally:
        # mmengine asks for the loader of mmcv._ext to learn whether there
        # are operators, and fails on a module that has none.
        del sys.modules['mmcv._ext']


def _check_compiled_mmcv_ops(info: StackInfo) -> None:
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        mmcv = info.packages['mmcv']
        raise ImportError(
            f'the compiled operators of {mmcv.name} {mmcv.version} do not '
            f'load with torch {info.torch}: build mmcv for this PyTorch, or '
            f'replace it by mmcv-lite. ({error})'
        ) from error


def _history_buffer_method(owner: object, name: str) -> Callable[..., Any]:
    """Return a statistics method of ``HistoryBuffer``, and nothing else.

    A pickled buffer refers to its own methods through ``getattr``. The real
    ``getattr`` would open every object to a crafted checkpoint.

    Raises:
        pickle.UnpicklingError: If anything else is asked for.
    """
    from mmengine.logging import HistoryBuffer

    methods = HistoryBuffer([], [])._statistics_methods
    if owner is not HistoryBuffer or name not in methods:
        raise pickle.UnpicklingError(
            f'a checkpoint asks for attribute {name!r} of {owner!r}; only '
            'the statistics methods of HistoryBuffer are allowed.'
        )
    return methods[name]


@cache
def _loaded_array() -> type:
    """Return the type of arrays in a checkpoint, which nothing can call.

    Called by a crafted checkpoint, ``numpy.ndarray`` would make an array of
    objects out of any bytes, and take them for addresses.
    """
    import numpy as np

    class LoadedArray(np.ndarray):
        """An array that only NumPy's own reconstruction can make."""

        def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
            raise pickle.UnpicklingError(
                'a checkpoint may not call numpy.ndarray'
            )

        def __reduce_ex__(self, protocol: Any) -> Any:
            return self.view(np.ndarray).__reduce_ex__(protocol)

    return LoadedArray


def _allow_mmengine_checkpoints() -> None:
    """Allow exactly the types that a checkpoint of mmengine holds.

    Its message hub keeps the history of each logged scalar as a
    ``HistoryBuffer`` of NumPy arrays, and the latest values as NumPy scalars.
    """
    import numpy as np
    import torch
    from mmengine.logging import HistoryBuffer

    reconstruct: Any = np.empty(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(code)) for code in '?bBhHiIlLqQefd']
    allowed: dict[str, Callable[..., Any]] = {
        # NumPy 2 renamed this module; a checkpoint may be from before.
        'numpy.core.multiarray._reconstruct': reconstruct,
        'numpy.core.multiarray.scalar': scalar,
        'numpy._core.multiarray._reconstruct': reconstruct,
        'numpy._core.multiarray.scalar': scalar,
        'numpy.ndarray': _loaded_array(),
        'builtins.getattr': _history_buffer_method,
    }
    for kind in (HistoryBuffer, np.dtype, *dtypes):
        allowed[f'{kind.__module__}.{kind.__qualname__}'] = kind
    # Pairs, because the loader of OneDL's mmengine takes its own list of bare
    # types away again after each use.
    torch.serialization.add_safe_globals(
        [(function, name) for name, function in allowed.items()]
    )


def _download_tensors_only() -> None:
    """Let mmengine read what it downloads as it reads files.

    It asks ``torch.hub``, which by itself still runs what a file asks for.
    """
    from mmengine.runner import checkpoint

    load_url = checkpoint.load_url
    if not isinstance(load_url, partial):
        checkpoint.load_url = partial(load_url, weights_only=True)


def _read_safetensors_in_mmengine() -> None:
    """Let ``load_from`` and the tools take a local ``.safetensors`` file."""
    from mmengine.runner import CheckpointLoader
    from safetensors import safe_open
    from safetensors.torch import load_file

    def load_from_safetensors(
        filename: str, map_location: Any = None
    ) -> dict[str, Any]:
        del map_location  # the model's parameters are where they are
        with safe_open(filename, 'pt') as file:
            meta = json.loads((file.metadata() or {}).get('meta', '{}'))
        return {'meta': meta, 'state_dict': load_file(filename)}

    # mmengine takes a prefix as a regular expression.
    CheckpointLoader.register_scheme(
        r'(?!\w+://).*\.safetensors$', loader=load_from_safetensors, force=True
    )
