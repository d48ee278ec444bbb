"""Config files of this package and of users."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .package_folder import find_package_folder
from .stack_info import install_hint


def find_config(config: str | Path) -> Path:
    """Returns the path of a config.

    Args:
        config (str | Path): path of a ``.py`` file, or name of a config of
            this package. The name may omit schedule and crop:
            ``faseg_efficientnet-lite0_dsb2018``.

    Raises:
        FileNotFoundError: if there is no such config.
        ValueError: if the name is ambiguous.
    """
    name = str(config)
    path = Path(config).expanduser()
    if path.suffix == '.py':
        if not path.is_file():
            raise FileNotFoundError(f'there is no config file {name}')
        return path
    patterns = [f'*/{name}.py']
    if name.count('_') == 2:
        method, backbone, dataset = name.split('_')
        patterns.append(f'*/{method}_{backbone}_*_{dataset}-*.py')
    for pattern in patterns:
        found = sorted(find_package_folder('configs').glob(pattern))
        if len(found) > 1:
            names = [x.stem for x in found]
            raise ValueError(f'{name} is ambiguous: choose from {names}')
        if found:
            return found[0]
    raise FileNotFoundError(
        f'{name} is not a config file, a work dir or the name of a config; '
        '`mim search mmfaseg` lists the names'
    )


def read_config(
    config: str | Path, options: Mapping[str, Any] | None = None
) -> Config:
    """Reads a config, see :func:`find_config`, and its custom imports.

    Args:
        config (str | Path): path or name.
        options (Mapping[str, Any], optional): settings to override, by dotted
            keys.

    Raises:
        ImportError: if a custom import fails.
        ValueError: if the file is not valid Python, or an option does not fit
            the config.
    """
    path = find_config(config)
    cfg = _read_file(path)
    for name, value in (options or {}).items():
        try:
            cfg.merge_from_dict({name: value})
        except (TypeError, KeyError) as error:
            message = error.args[0] if error.args else error
            raise ValueError(
                f'the option {name}={value!r} does not fit {path.name}: '
                f'{message}'
            ) from error
    return cfg


def _read_file(path: Path) -> Config:
    try:
        return Config.fromfile(path)
    except SyntaxError as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    except ImportError as error:
        cause: BaseException = error
        while inner := cause.__cause__ or cause.__context__:
            cause = inner
        remedy = 'check custom_imports and PYTHONPATH'
        name = getattr(cause, 'name', None)
        root = (name or '').partition('.')[0]
        is_missing = isinstance(cause, ModuleNotFoundError) and root
        if is_missing and importlib.util.find_spec(root) is None:
            remedy = (
                f'{install_hint(root)}, or add the folder of your own module '
                'to PYTHONPATH'
            )
            for folder in (path.parent, Path()):
                if (folder / f'{root}.py').is_file():
                    remedy = f'set PYTHONPATH={folder.resolve()}'
        raise ImportError(
            f'an import of {path.name} failed: {cause}: {remedy}', name=name
        ) from error
