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
            'a checkpoint asks for an attribute; only the statistics methods '
            'of HistoryBuffer are allowed.'
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


def _reconstruct_array(kind: type, shape: tuple, code: bytes) -> Any:
    """Make an array of nothing, which is filled afterwards.

    NumPy pickles every array so. A crafted checkpoint could ask for any size.
    """
    import numpy as np

    if type(shape) is not tuple or shape != (0,):
        raise pickle.UnpicklingError('a checkpoint asks for a large array')
    reconstruct: Any = np.empty(0).__reduce__()[0]
    return reconstruct(kind, shape, code)


def register_safe_globals() -> None:
    """Register the types in mmengine's checkpoints as safe globals.

    Its message hub keeps the history of each logged scalar as a
    ``HistoryBuffer`` of NumPy arrays, and the latest values as NumPy scalars.
    """
    import numpy as np
    from mmengine.logging import HistoryBuffer

    reconstruct = _reconstruct_array
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


def patch_checkpoint_loaders() -> None:
    """Make mmengine load files and URLs with :func:`load_untrusted`.

    By itself the mmengine of OneDL falls back to running what a file asks for,
    and both ask ``torch.hub`` for downloads, which does so, too.
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
    """Register a loader of local ``.safetensors`` files in mmengine."""
    from mmengine.runner import CheckpointLoader
    from safetensors import safe_open
    from safetensors.torch import load_file

    from ..checkpoints.untrusted import explained

    def load_from_safetensors(
        filename: str, map_location: Any = None
    ) -> dict[str, Any]:
        del map_location  # the model's parameters are where they are
        filename = os.path.expanduser(filename)
        with explained(filename):
            with safe_open(filename, 'pt') as file:
                meta = json.loads((file.metadata() or {}).get('meta', '{}'))
            return {'meta': meta, 'state_dict': load_file(filename)}

    # mmengine takes a prefix as a regular expression.
    CheckpointLoader.register_scheme(
        r'(?!\w+://).*\.safetensors$', loader=load_from_safetensors, force=True
    )
