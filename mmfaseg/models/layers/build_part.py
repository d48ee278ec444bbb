"""Parts of the network that a config chooses."""

from typing import Any

from torch import nn

from mmfaseg.registry import MODELS


def build_part(
    name: str, cfg: dict[str, Any], base: type[nn.Module], **arguments: Any
) -> Any:
    """Builds a part from its config and checks its interface.

    Args:
        name (str): argument that the config was given as, for errors.
        cfg (dict): config with ``type``, a registered name or a class.
        base (type): base class that documents the interface of the part.
        arguments: given to the part by the network, such as ``embed_dims``.

    Raises:
        TypeError: if ``cfg`` is not a config, or the part does not derive
            from ``base``.
    """
    kind = find_class(name, cfg)
    if not issubclass(kind, base):
        raise TypeError(
            f'{name}: {kind.__name__} must derive from '
            f'{base.__module__}.{base.__qualname__}'
        )
    return MODELS.build(dict(cfg, **arguments))


def find_class(name: str, cfg: dict[str, Any]) -> type[nn.Module]:
    """Returns the class that a config names.

    Raises:
        TypeError: if ``cfg`` is not a config.
        KeyError: if no class of this name is registered.
    """
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(
            f"{name} must be a config such as dict(type='mmfaseg.X', ...), "
            f'got {cfg!r}'
        )
    kind = cfg['type']
    if isinstance(kind, str):
        # as MODELS.build does: in the default scope of the config
        with MODELS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
        if kind is None:
            raise KeyError(
                f'{name}: no class {cfg["type"]!r} is registered in MODELS; '
                'import its module by custom_imports, and write mmfaseg.X '
                'for classes of this package'
            )
    return kind
