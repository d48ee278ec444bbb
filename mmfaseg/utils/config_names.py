"""Validation of the class and argument names in a config.

mmengine ignores a misspelled key of its own, and the error of a class that
gets an unknown argument does not name the place in the config.
"""

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.logging import print_log
from torch.utils.data import DataLoader

from .config_classes import (
    REGISTRIES,
    find_class,
    init_arguments,
    registered_names,
)
from .config_keys import check_keys
from .diagnostics import Diagnostics
from .misplaced_arguments import find_remedies
from .suggestions import CLASS_CUTOFF, closest_match

# keys that Runner.from_cfg reads
RUNNER_KEYS = (
    *('model', 'tta_model', 'tta_pipeline', 'val_evaluator'),
    *('test_evaluator', 'default_hooks', 'custom_hooks', 'optim_wrapper'),
    *('param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg', 'visualizer'),
    *('log_processor', 'strategy'),
)
LOADER_KEYS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# keys that mmengine removes before it calls the class
CONSUMED_KEYS = {
    'optim_wrapper': ('optimizer', 'paramwise_cfg', 'constructor'),
    'default_hooks': ('priority',),
    'custom_hooks': ('priority',),
    'train_cfg': ('by_epoch',),
}
EXTRA_LOADER_KEYS = ('num_batch_per_epoch', 'worker_init_fn')
COMMON_KEYS = ('type', '_scope_', '_delete_')
# parts to which no arguments are added when they are built
SELF_CONTAINED = (
    *('model', 'backbone', 'decode_head', 'auxiliary_head', 'pipeline'),
    *('default_hooks', 'custom_hooks', 'val_evaluator', 'test_evaluator'),
    'data_preprocessor',
)
# read by functions that build layers and take keys of their own
LAYER_KEYS = ('dcn', 'plugins')


class ConfigNameError(ValueError):
    """A config holds unknown names; the message lists them."""


def reject_unknown_names(cfg: Config) -> None:
    """Rejects a config with unknown names; warns of doubtful ones.

    Args:
        cfg (Config): of any task.

    Raises:
        ConfigNameError: if a name is unknown or missing.
    """
    diagnostics = Diagnostics()
    check_names(cfg, diagnostics)
    errors = [str(x) for x in diagnostics.list() if x.is_error]
    for diagnostic in diagnostics.list():
        if not diagnostic.is_error:
            print_log(str(diagnostic), logger='current', level=logging.WARNING)
    if errors:
        raise ConfigNameError('\n'.join(errors))


def check_names(cfg: Config, diagnostics: Diagnostics) -> None:
    """Checks that the classes and arguments of a config exist.

    Args:
        cfg (Config): of any task.
        diagnostics (Diagnostics): collects the errors, with a suggestion
            where a similar name exists.
    """
    scope = cfg.get('default_scope') or 'mmseg'
    registries.init_default_scope(scope)
    check_keys(cfg, diagnostics)
    settings = cfg.to_dict()
    for key in (*RUNNER_KEYS, *LOADER_KEYS):
        if key in LOADER_KEYS and isinstance(settings.get(key), Mapping):
            _check_loader(key, settings[key], diagnostics)
        for where, part, registry_key in _parts(settings.get(key), key, key):
            _check_part(where, part, registry_key, scope, diagnostics)


def _check_loader(key: str, loader: Mapping, diagnostics: Diagnostics) -> None:
    known = [*inspect.signature(DataLoader).parameters, *EXTRA_LOADER_KEYS]
    for name in loader:
        if name not in known:
            _report_unknown(
                f'{key}.{name}', 'DataLoader', known, diagnostics.error
            )


def _parts(
    value: Any, where: str, registry_key: str
) -> Iterator[tuple[str, Mapping, str]]:
    """Yields place, settings and registry key of each part, also nested ones.

    Settings of layers (``norm_cfg``) are built by other functions.
    """
    if isinstance(value, Mapping):
        if 'type' in value:
            yield where, value, registry_key
        for key, inner in value.items():
            if str(key).endswith('_cfg') or key in LAYER_KEYS:
                continue
            yield from _parts(
                inner,
                f'{where}.{key}',
                key if key in (*REGISTRIES, *SELF_CONTAINED) else registry_key,
            )
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, inner in enumerate(value):
            yield from _parts(inner, f'{where}.{number}', registry_key)


def _check_part(
    where: str,
    part: Mapping,
    registry_key: str,
    scope: str,
    diagnostics: Diagnostics,
) -> None:
    kind = part['type']
    if kind is None or (isinstance(kind, str) and not kind.strip('.')):
        diagnostics.error(f'{where}.type', f'{kind!r} is no class', 'name one')
        return
    if isinstance(kind, str):
        kind = find_class(kind, registry_key, scope)
    if kind is None:
        package, _, name = part['type'].rpartition('.')
        names = registered_names(registry_key, scope)
        suggestion = closest_match(name, sorted(names), CLASS_CUTOFF)
        is_known = not package or package in registries.MODELS.children
        if suggestion and is_known:  # else of a package that is not imported
            diagnostics.error(
                f'{where}.type',
                f'there is no {part["type"]!r}',
                f'did you mean {names[suggestion]!r}?',
            )
        return
    if not inspect.isclass(kind):
        return
    is_self_contained = registry_key in SELF_CONTAINED and _is_direct_entry(
        where, registry_key
    )
    # heads of mmdet take keys out of the settings of their losses
    is_inner = (
        where.startswith('model.')
        and not is_self_contained
        and not kind.__module__.startswith('mmfaseg.')
    )
    known, has_var_kwargs = init_arguments(kind)
    known += [*COMMON_KEYS, *CONSUMED_KEYS.get(registry_key, ())]
    for name in part:
        if name in known or (
            has_var_kwargs and not closest_match(name, known)
        ):
            continue
        # the name may still be used
        report = (
            diagnostics.warn
            if has_var_kwargs or is_inner
            else diagnostics.error
        )
        remedy = find_remedies(kind).get(name, '')
        _report_unknown(
            f'{where}.{name}', kind.__name__, known, report, remedy
        )
    if is_self_contained:
        _check_required(where, part, kind, diagnostics)


def _is_direct_entry(where: str, registry_key: str) -> bool:
    """Returns whether a part is the value of a key, or an item of it."""
    *_, outer, last = ('', *where.split('.'))
    return last == registry_key or (
        outer == registry_key
        and (last.isdigit() or registry_key == 'default_hooks')
    )


def _check_required(
    where: str, part: Mapping, kind: type, diagnostics: Diagnostics
) -> None:
    for name, parameter in inspect.signature(kind).parameters.items():
        named = parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if named and parameter.default is parameter.empty and name not in part:
            diagnostics.error(
                where,
                f'{kind.__name__} needs {name}',
                f'set {where}.{name}',
            )


def _report_unknown(
    where: str,
    kind: str,
    known: Sequence[str],
    report: Callable[[str, str, str], None],
    remedy: str = '',
) -> None:
    suggestion = closest_match(where.rpartition('.')[2], known)
    names = ', '.join(x for x in known if x not in COMMON_KEYS)
    if not remedy:
        remedy = f'did you mean {suggestion}?' if suggestion else ''
    report(
        where,
        f'{kind} has no such argument',
        remedy or f'it has {names}',
    )
