"""Check of the keys, class names and arguments in a config.

mmengine ignores misspelled keys, and its errors about unknown arguments do
not include the location in the config.
"""

import difflib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.runner import FlexibleRunner, Runner
from torch.utils.data import DataLoader

from .config_classes import (
    REGISTRIES,
    find_class,
    init_arguments,
    registered_names,
    required_arguments,
)
from .config_conflicts import LOADER_KEYS
from .diagnostics import Diagnostics
from .misplaced_arguments import find_remedies
from .stack_info import install_hint

# minimum similarity at which a name is considered a misspelling of another
ARGUMENT_CUTOFF, CLASS_CUTOFF, KEY_CUTOFF = 0.75, 0.85, 0.87
# keys with classes that Runner.from_cfg builds
RUNNER_KEYS = (
    *('model', 'tta_model', 'tta_pipeline', 'val_evaluator'),
    *('test_evaluator', 'default_hooks', 'custom_hooks', 'optim_wrapper'),
    *('param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg', 'visualizer'),
    *('log_processor', 'strategy'),
)
# arguments that mmengine removes before it builds the object
CONSUMED_ARGUMENTS = {
    'optim_wrapper': ('optimizer', 'paramwise_cfg', 'constructor'),
    'default_hooks': ('priority',),
    'custom_hooks': ('priority',),
    'train_cfg': ('by_epoch',),
}
EXTRA_LOADER_ARGUMENTS = ('num_batch_per_epoch', 'worker_init_fn')
COMMON_ARGUMENTS = ('type', '_scope_', '_delete_')
# keys whose objects need no arguments besides their settings
SELF_CONTAINED = (
    *('model', 'backbone', 'decode_head', 'auxiliary_head', 'pipeline'),
    *('default_hooks', 'custom_hooks', 'val_evaluator', 'test_evaluator'),
    'data_preprocessor',
)
# settings of functions that build layers
LAYER_KEYS = ('dcn', 'plugins')


def check_names(cfg: Config, diagnostics: Diagnostics) -> None:
    """Checks that the keys, classes and arguments of a config exist."""
    scope = cfg.get('default_scope') or 'mmseg'
    registries.init_default_scope(scope)
    _check_keys(cfg, diagnostics)
    settings = cfg.to_dict()
    for key in LOADER_KEYS:
        loader = settings.get(key)
        known = list(inspect.signature(DataLoader).parameters)
        known += EXTRA_LOADER_ARGUMENTS
        for name in loader if isinstance(loader, Mapping) else ():
            if name not in known:
                place = f'{key}.{name}'
                _report_unknown(place, 'DataLoader', known, diagnostics.error)
    classes: dict[str, type] = {}  # by place
    for key in (*RUNNER_KEYS, *LOADER_KEYS):
        for place, part, registry_key in _parts(settings.get(key), key, key):
            cls = _check_class(place, part, registry_key, scope, diagnostics)
            if inspect.isclass(cls):
                classes[place] = cls
                outer = classes.get(place.rpartition('.')[0])
                _check_arguments(
                    place, part, registry_key, cls, outer, diagnostics
                )


def _check_keys(cfg: Config, diagnostics: Diagnostics) -> None:
    """Reports keys that the runner ignores."""
    is_flexible = cfg.get('runner_type') == 'FlexibleRunner'
    runner = FlexibleRunner if is_flexible else Runner
    known = [*inspect.signature(runner).parameters, 'runner_type']
    known.remove('cfg')
    for key in cfg:
        suggestion = _closest(key, known, KEY_CUTOFF)
        is_variant = key[-1:].isdigit()  # such as train_dataloader_2
        if suggestion and key not in known and not is_variant:
            diagnostics.error(
                key,
                'mmengine ignores this key',
                f'did you mean {suggestion}? If this is your own variable, '
                'rename it',
            )


def _parts(
    value: Any, place: str, registry_key: str
) -> Iterator[tuple[str, Mapping, str]]:
    """Yields location, settings and registry key of all dicts with a type.

    Layer configs, such as ``norm_cfg``, are excluded.
    """
    if isinstance(value, Mapping):
        if 'type' in value:
            yield place, value, registry_key
        for key, inner in value.items():
            if not str(key).endswith('_cfg') and key not in LAYER_KEYS:
                has_registry = key in REGISTRIES or key in SELF_CONTAINED
                inner_key = key if has_registry else registry_key
                yield from _parts(inner, f'{place}.{key}', inner_key)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, inner in enumerate(value):
            yield from _parts(inner, f'{place}.{number}', registry_key)


def _check_class(
    place: str,
    part: Mapping,
    registry_key: str,
    scope: str,
    diagnostics: Diagnostics,
) -> Any:
    """Returns the class of a config dict, or None if it is unknown."""
    kind = part['type']
    if kind is None or (isinstance(kind, str) and not kind.strip('.')):
        diagnostics.error(
            f'{place}.type', f'{kind!r} is not a class', 'set a class name'
        )
        return None
    if not isinstance(kind, str):
        return kind
    cls = find_class(kind, registry_key, scope)
    package, _, name = kind.rpartition('.')
    if missing := _missing_package(kind):
        diagnostics.error(
            f'{place}.type',
            f'{kind!r} needs {missing}, which is not installed',
            install_hint(missing),
        )
        return None
    # classes of packages that are not imported yet are unknown
    if cls is None and (not package or package in registries.MODELS.children):
        names = registered_names(registry_key, scope)
        suggestion = _closest(name, names, CLASS_CUTOFF)
        if suggestion:
            diagnostics.error(
                f'{place}.type',
                f'there is no {kind!r}',
                f'did you mean {names[suggestion]!r}?',
            )
    return cls


def _missing_package(kind: str) -> str | None:
    """Returns the package of a class if it is not installed."""
    root, is_qualified, _ = kind.partition('.')
    if kind.rpartition('.')[2] == 'TIMMBackbone':
        root = 'timm'
    elif (
        not is_qualified
        or root in registries.MODELS.children
        or root in sys.modules
    ):
        return None
    return None if importlib.util.find_spec(root) else root


def _check_arguments(
    place: str,
    part: Mapping,
    registry_key: str,
    cls: type,
    outer: type | None,
    diagnostics: Diagnostics,
) -> None:
    """Reports unknown and missing arguments of a class.

    ``outer`` is the class whose settings contain those of ``cls``.
    """
    is_self_contained = registry_key in SELF_CONTAINED and _is_direct_entry(
        place, registry_key
    )
    # mmdet's heads remove arguments from the configs of their losses
    is_inner = (
        place.startswith('model.')
        and not is_self_contained
        and not _is_ours(cls)
        and not _is_ours(outer)
    )
    known, has_var_kwargs = init_arguments(cls)
    known += [*COMMON_ARGUMENTS, *CONSUMED_ARGUMENTS.get(registry_key, ())]
    may_be_used = has_var_kwargs or is_inner
    report = diagnostics.warn if may_be_used else diagnostics.error
    for name in part:
        if name in known or (has_var_kwargs and not _closest(name, known)):
            continue
        remedy = find_remedies(cls).get(name, '')
        hint = ''
        if _is_ours(outer) and not (is_self_contained or _is_ours(cls)):
            hint = f' If the base config sets it, add _delete_=True to {place}'
        _report_unknown(
            f'{place}.{name}', cls.__name__, known, report, remedy, hint
        )
    for name in required_arguments(cls) if is_self_contained else ():
        if name not in part:
            diagnostics.error(
                place, f'{cls.__name__} needs {name}', f'set {place}.{name}'
            )


def _is_ours(cls: type | None) -> bool:
    """Returns whether a class belongs to this package.

    Its models pass the settings of their parts unchanged.
    """
    return cls is not None and cls.__module__.startswith('mmfaseg.')


def _is_direct_entry(place: str, registry_key: str) -> bool:
    """Returns whether a part is the value of a key or an item of it."""
    *_, outer, last = ('', *place.split('.'))
    return last == registry_key or (
        outer == registry_key
        and (last.isdigit() or registry_key == 'default_hooks')
    )


def _report_unknown(
    place: str,
    cls: str,
    known: Sequence[str],
    report: Callable[[str, str, str], None],
    remedy: str = '',
    hint: str = '',
) -> None:
    """Reports an argument that a class does not have.

    Without ``remedy``, suggests a similar name or all names, and ``hint``.
    """
    if not remedy:
        suggestion = _closest(place.rpartition('.')[2], known)
        names = ', '.join(x for x in known if x not in COMMON_ARGUMENTS)
        remedy = f'choose from {names}'
        if suggestion:
            remedy = f'did you mean {suggestion}?'
        elif hint:
            remedy += '.'
        remedy += hint
    report(place, f'{cls} has no such argument', remedy)


def _closest(
    name: str, known: Collection[str], cutoff: float = ARGUMENT_CUTOFF
) -> str:
    """Returns the most similar known name, or an empty string."""
    matches = difflib.get_close_matches(str(name), known, 1, cutoff)
    return matches[0] if matches else ''
