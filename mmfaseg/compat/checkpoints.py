"""Patches of mmengine's checkpoint loaders."""

import json
import os
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn
from urllib.parse import urlparse

import torch


def _history_buffer_method(owner: object, name: str) -> Callable[..., Any]:
    """Returns a statistics method of ``HistoryBuffer``.

    A pickled buffer refers to its methods through ``getattr``. The builtin
    would give a malicious checkpoint access to all objects.

    Raises:
        pickle.UnpicklingError: if any other attribute is requested.
    """
    from mmengine.logging import HistoryBuffer

    methods = HistoryBuffer([], [])._statistics_methods
    if owner is not HistoryBuffer or name not in methods:
        raise pickle.UnpicklingError(
            'the checkpoint accesses an attribute; only the statistics '
            'methods of HistoryBuffer are allowed'
        )
    return methods[name]


@cache
def _loaded_array() -> type:
    """Returns an array type whose constructor raises.

    A malicious checkpoint could call ``numpy.ndarray`` to create an object
    array from arbitrary bytes, which NumPy would use as addresses.
    """
    import numpy as np

    class LoadedArray(np.ndarray):
        """An array that only NumPy's unpickling can create."""

        def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
            raise pickle.UnpicklingError(
                'the checkpoint calls numpy.ndarray, which is not allowed'
            )

        def __reduce_ex__(self, protocol: Any) -> Any:
            return self.view(np.ndarray).__reduce_ex__(protocol)

    return LoadedArray


def _reconstruct_array(kind: type, shape: tuple, code: bytes) -> Any:
    """Creates an empty array, to which NumPy's unpickling adds the data.

    A malicious checkpoint could request an array of any size.
    """
    import numpy as np

    if type(shape) is not tuple or shape != (0,):
        raise pickle.UnpicklingError('the checkpoint allocates a large array')
    reconstruct: Any = np.empty(0).__reduce__()[0]
    return reconstruct(kind, shape, code)


def register_safe_globals() -> None:
    """Registers the types in mmengine's checkpoints as safe globals.

    The message hub stores the history of each logged scalar in a
    ``HistoryBuffer`` of NumPy arrays, and the latest values as NumPy scalars.
    """
    import numpy as np
    from mmengine.logging import HistoryBuffer

    reconstruct = _reconstruct_array
    scalar: Any = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(code)) for code in '?bBhHiIlLqQefd']
    allowed: dict[str, Callable[..., Any]] = {
        # the name of this module before NumPy 2
        'numpy.core.multiarray._reconstruct': reconstruct,
        'numpy.core.multiarray.scalar': scalar,
        'numpy._core.multiarray._reconstruct': reconstruct,
        'numpy._core.multiarray.scalar': scalar,
        'numpy.ndarray': _loaded_array(),
        'builtins.getattr': _history_buffer_method,
    }
    for kind in (HistoryBuffer, np.dtype, *dtypes):
        allowed[f'{kind.__module__}.{kind.__qualname__}'] = kind
    # Pairs, because OneDL's mmengine removes its own list of types after each
    # use.
    torch.serialization.add_safe_globals(
        [(function, name) for name, function in allowed.items()]
    )


def patch_checkpoint_loaders() -> None:
    """Makes mmengine load files and URLs with :func:`load_untrusted`.

    Otherwise OneDL's mmengine falls back to unrestricted unpickling, and so
    does ``torch.hub``, which both families use for downloads.
    """
    from mmengine.runner import CheckpointLoader, checkpoint

    from ..checkpoints.untrusted import load_untrusted

    def load_from_local(filename: str, map_location: Any = None) -> Any:
        path = os.path.expanduser(filename)
        if not os.path.isfile(path):
            raise FileNotFoundError(f'there is no checkpoint {filename}')
        return load_untrusted(path, map_location)

    def load_url(
        url: str,
        model_dir: str | None = None,
        map_location: Any = None,
        progress: bool = True,
    ) -> Any:
        folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
        path = os.path.join(folder, os.path.basename(urlparse(url).path))
        if not os.path.isfile(path):
            os.makedirs(folder, exist_ok=True)
            torch.hub.download_url_to_file(url, path, progress=progress)
        try:
            return load_untrusted(path, map_location)
        except ValueError as error:
            raise ValueError(
                f'{error} Delete it to download it again from {url}'
            ) from error

    checkpoint.load_url = load_url
    CheckpointLoader.register_scheme('', loader=load_from_local, force=True)


def register_safetensors_loader() -> None:
    """Registers a loader of local ``.safetensors`` files in mmengine."""
    from mmengine.runner import CheckpointLoader
    from safetensors import safe_open
    from safetensors.torch import load_file

    from ..checkpoints.untrusted import explained

    def load_from_safetensors(
        filename: str, map_location: Any = None
    ) -> dict[str, Any]:
        del map_location  # weights are copied to the model's device
        filename = os.path.expanduser(filename)
        with explained(filename):
            with safe_open(filename, 'pt') as file:
                meta = json.loads((file.metadata() or {}).get('meta', '{}'))
            return {'meta': meta, 'state_dict': load_file(filename)}

    # mmengine interprets prefixes as regular expressions
    CheckpointLoader.register_scheme(
        r'(?!\w+://).*\.safetensors$', loader=load_from_safetensors, force=True
    )
