"""Builds the configurable parts of the network."""

import inspect
from typing import Any

from torch import nn

from mmfaseg.registry import MODELS


def build_part(
    name: str, cfg: dict[str, Any], base: type[nn.Module], **arguments: Any
) -> Any:
    """Builds a part from its config and checks its interface.

    Args:
        name (str): name of the config argument, for error messages.
        cfg (dict): config whose ``type`` is a registered name or a class.
        base (type): required base class of the part.
        **arguments (Any): set by the network, such as ``embed_dims``.

    Raises:
        KeyError: if no class of this name is registered.
        TypeError: if ``cfg`` is not a config, or the part does not derive
            from ``base``.
        ValueError: if ``cfg`` sets one of ``arguments``.
    """
    check_part(name, cfg, base)
    conflicts = sorted(cfg.keys() & arguments.keys())
    if conflicts:
        raise ValueError(
            f'{name}: remove {", ".join(conflicts)}; the network sets it'
        )
    return MODELS.build(dict(cfg, **arguments))


def check_part(name: str, cfg: dict[str, Any], base: type[nn.Module]) -> None:
    """Checks the class of a part; see :func:`build_part`."""
    kind = find_class(name, cfg)
    if not issubclass(kind, base):
        raise TypeError(
            f'{name}: {kind.__name__} must derive from '
            f'{base.__module__}.{base.__qualname__}'
        )


def find_class(name: str, cfg: dict[str, Any]) -> type[nn.Module]:
    """Returns the class that a config names; see :func:`build_part`."""
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(
            f"{name} must be a config such as dict(type='mmfaseg.X', ...), "
            f'got {cfg!r}'
        )
    kind: Any = cfg['type']
    if isinstance(kind, str):
        # as MODELS.build does: in the default scope of the config
        with MODELS.switch_scope_and_registry(cfg.get('_scope_')) as registry:
            kind = registry.get(kind)
        if kind is None:
            raise KeyError(
                f'{name}: no class {cfg["type"]!r} is registered in scope '
                f'{registry.scope!r}; import its module with custom_imports, '
                'and add the scope of a class from another package, such as '
                'mmfaseg.X'
            )
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
        raise TypeError(f'{name}: type must be a module class, got {kind!r}')
    return kind
