"""Patches of mmengine's checkpoint loaders."""

import hashlib
import importlib.util
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from ..utils.stack_info import install_hint

# of many models on Hugging Face; a hash of the URL distinguishes their files
GENERIC_NAMES = ('model.safetensors', 'pytorch_model.bin')


def _history_buffer_method(owner: object, name: str) -> Callable[..., Any]:
    """Returns a statistics method of ``HistoryBuffer``.

    A pickled buffer refers to its own methods through ``getattr``. The
    built-in ``getattr`` would allow a crafted checkpoint to access any object.

    Raises:
        pickle.UnpicklingError: If another attribute is requested.
    """
    from mmengine.logging import HistoryBuffer

    methods = HistoryBuffer([], [])._statistics_methods
    if owner is not HistoryBuffer or name not in methods:
        raise pickle.UnpicklingError(
            f'the checkpoint requests the attribute {name!r}; only the '
            'statistics methods of HistoryBuffer are allowed.'
        )
    return methods[name]


def register_safe_globals() -> None:
    """Registers the types in mmengine's checkpoints as safe globals.

    The message hub stores the history of each logged scalar in a
    ``HistoryBuffer`` of NumPy arrays, and the latest values as NumPy scalars.
    """
    from mmengine.logging import HistoryBuffer

    from ..checkpoints.numpy_pickle import CONSTRUCTORS

    name = f'{HistoryBuffer.__module__}.{HistoryBuffer.__qualname__}'
    allowed: dict[str, Callable[..., Any]] = {
        **CONSTRUCTORS,
        'builtins.getattr': _history_buffer_method,
        name: HistoryBuffer,
    }
    # Pairs are distinct from the types that the loader of OneDL's mmengine
    # adds and then removes.
    torch.serialization.add_safe_globals(
        [(function, name) for name, function in allowed.items()]
    )


class DownloadError(OSError):
    """Raised if weights cannot be downloaded; its message has the remedy."""


class _UrlsWithoutTorchvision(dict[str, str]):
    """URLs of torchvision 0.12; torchvision itself knows newer weights."""

    def __missing__(self, name: str) -> str:
        raise ValueError(
            f'torchvision://{name} needs torchvision, which is not installed: '
            f'{install_hint("torchvision")}; without it, choose from '
            f'{", ".join(self)}'
        )


def patch_checkpoint_loaders() -> None:
    """Makes mmengine load local files and URLs with :func:`read_checkpoint`.

    OneDL's mmengine falls back to unsafe loading, which executes code from the
    file. For URLs, both mmengine packages use ``torch.hub``, which is unsafe.
    The weights of ``torchvision://`` are those of URLs; without torchvision,
    the list of mmengine is used.
    """
    import mmengine
    from mmengine.runner import CheckpointLoader, checkpoint

    from ..checkpoints.files import read_checkpoint

    def load_from_local(filename: str, map_location: Any = None) -> Any:
        return read_checkpoint(filename, map_location)

    def load_url(
        url: str,
        model_dir: str | None = None,
        map_location: Any = None,
        progress: bool = True,
    ) -> Any:
        folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
        name = os.path.basename(urlparse(url).path)
        if name in GENERIC_NAMES:
            name = f'{hashlib.sha256(url.encode()).hexdigest()[:8]}_{name}'
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            os.makedirs(folder, exist_ok=True)
            try:
                torch.hub.download_url_to_file(url, path, progress=progress)
            except OSError as error:
                raise DownloadError(
                    f'{url} cannot be downloaded: {error}. Download it on '
                    f'another machine and copy it to {path}'
                ) from error
        try:
            return read_checkpoint(path, map_location)
        except ValueError as error:
            raise ValueError(
                f'{error} Delete it to download it again from {url}'
            ) from error

    get_urls = checkpoint.get_torchvision_models

    def get_torchvision_models() -> dict[str, str]:
        if importlib.util.find_spec('torchvision') is not None:
            return get_urls()
        path = Path(mmengine.__file__).parent / 'hub/torchvision_0.12.json'
        return _UrlsWithoutTorchvision(mmengine.load(path))

    checkpoint.load_url = load_url
    checkpoint.get_torchvision_models = get_torchvision_models
    CheckpointLoader.register_scheme('', loader=load_from_local, force=True)
