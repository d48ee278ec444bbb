"""Names in a config that nothing knows: found before anything is built.

mmengine ignores a misspelt key of its own, and a class that does not know an
argument says so without a word on where in the config it stands.
"""

import difflib
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import FlexibleRunner, Runner
from torch.utils.data import DataLoader

from .config_classes import (
    REGISTRIES,
    arguments_of,
    find_class,
    names_below,
)
from .finding import Findings

# how much alike two names are, from 0 to 1, where one is the other misspelt
ARGUMENT, CLASS, KEY = 0.75, 0.85, 0.87
# what Runner.from_cfg reads, of those
READ = (
    *('model', 'tta_model', 'tta_pipeline', 'val_evaluator'),
    *('test_evaluator', 'default_hooks', 'custom_hooks', 'optim_wrapper'),
    *('param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg', 'visualizer'),
    *('log_processor', 'strategy'),
)
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# what mmengine takes out before it calls the class
TAKEN = {
    'optim_wrapper': ('optimizer', 'paramwise_cfg', 'constructor'),
    'default_hooks': ('priority',),
    'custom_hooks': ('priority',),
    'train_cfg': ('by_epoch',),
}
OF_LOADERS = ('num_batch_per_epoch', 'worker_init_fn')
ALWAYS = ('type', '_scope_', '_delete_')
# complete where they stand: nobody adds arguments when they are built
COMPLETE = (
    *('model', 'backbone', 'decode_head', 'auxiliary_head', 'pipeline'),
    *('default_hooks', 'custom_hooks', 'val_evaluator', 'test_evaluator'),
    'data_preprocessor',
)
# read by functions that build layers and take keys of their own
OF_LAYERS = ('dcn', 'plugins')


class ConfigNameError(ValueError):
    """A config holds names that nothing knows; the message lists them."""


def refuse_unknown_names(cfg: Config) -> None:
    """Warns of names that may be misspelt, and refuses those that are.

    Args:
        cfg (Config): of any task.

    Raises:
        ConfigNameError: if something does not exist, or is missing.
    """
    findings = Findings()
    check_names(cfg, findings)
    errors = [str(x) for x in findings.list() if x.is_error]
    for finding in findings.list():
        if not finding.is_error:
            print_log(str(finding), logger='current', level=logging.WARNING)
    if errors:
        raise ConfigNameError('\n'.join(errors))


def check_names(cfg: Config, findings: Findings) -> None:
    """Looks for classes and arguments that do not exist.

    Args:
        cfg (Config): of any task.
        findings (Findings): gets what is wrong, with the name that is meant,
            as far as it can be guessed.
    """
    scope = cfg.get('default_scope') or 'mmseg'
    registries.init_default_scope(scope)
    _check_keys(cfg, findings)
    settings = cfg.to_dict()
    for key in (*READ, *LOADERS):
        if key in LOADERS and isinstance(settings.get(key), Mapping):
            _check_loader(key, settings[key], findings)
        for where, part, home in _parts(settings.get(key), key, key):
            _check_part(where, part, home, scope, findings)


def _check_keys(cfg: Config, findings: Findings) -> None:
    """Runner.from_cfg ignores what it does not know."""
    runner = _check_runner(cfg, findings)
    known = [*inspect.signature(runner).parameters, 'runner_type']
    known.remove('cfg')
    for key in cfg:
        meant = _similar(key, known, KEY)
        is_variant = key[-1:].isdigit()  # such as train_dataloader_2
        if meant and key not in known and not is_variant:
            findings.error(
                key,
                'mmengine ignores this key',
                f'did you mean {meant}? If it is a variable of yours, call '
                'it something else',
            )


def _check_runner(cfg: Config, findings: Findings) -> type:
    """Returns the runner; tells of what it does not look at."""
    is_flexible = cfg.get('runner_type') == 'FlexibleRunner'
    if not is_flexible and cfg.get('strategy'):
        findings.error(
            'strategy',
            'only the FlexibleRunner looks at it',
            "set runner_type = 'FlexibleRunner', or take it out",
        )
    for key in ('sync_bn', 'model_wrapper_cfg'):
        if is_flexible and cfg.get(key):
            findings.error(
                key,
                'the FlexibleRunner does not look at it',
                'take it out, or give it to the strategy',
            )
    kind = str((cfg.get('strategy') or {}).get('type'))
    hooks = [str(x.get('type')) for x in cfg.get('custom_hooks') or ()]
    if kind.endswith('FullyShardStrategy') and 'EMAHook' in hooks:
        findings.error(
            'custom_hooks',
            'EMAHook copies the network, which cannot be done in shards',
            'take it out, or the strategy',
        )
    return FlexibleRunner if is_flexible else Runner


def _check_loader(key: str, loader: Mapping, findings: Findings) -> None:
    known = [*inspect.signature(DataLoader).parameters, *OF_LOADERS]
    for name in loader:
        if name not in known:
            _tell_unknown(f'{key}.{name}', 'DataLoader', known, findings.error)


def _parts(
    value: Any, where: str, home: str
) -> Iterator[tuple[str, Mapping, str]]:
    """Yields what a class is built from, its place and key, inner ones too.

    Settings of layers (``norm_cfg``) are read by functions of their own.
    """
    if isinstance(value, Mapping):
        if 'type' in value:
            yield where, value, home
        for key, inner in value.items():
            if str(key).endswith('_cfg') or key in OF_LAYERS:
                continue
            yield from _parts(
                inner,
                f'{where}.{key}',
                key if key in (*REGISTRIES, *COMPLETE) else home,
            )
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, inner in enumerate(value):
            yield from _parts(inner, f'{where}.{number}', home)


def _check_part(
    where: str, part: Mapping, home: str, scope: str, findings: Findings
) -> None:
    kind = part['type']
    if kind is None or (isinstance(kind, str) and not kind.strip('.')):
        findings.error(f'{where}.type', f'{kind!r} is no class', 'name one')
        return
    if isinstance(kind, str):
        kind = find_class(kind, home, scope)
    if kind is None:
        package, _, name = part['type'].rpartition('.')
        names = names_below(home, scope)
        meant = _similar(name, sorted(names), CLASS)
        is_known = not package or package in registries.MODELS.children
        if meant and is_known:  # else of a package that is not imported
            findings.error(
                f'{where}.type',
                f'there is no {part["type"]!r}',
                f'did you mean {names[meant]!r}?',
            )
        return
    if not inspect.isclass(kind):
        return
    is_whole = home in COMPLETE and _stands_at(where, home)
    # heads of mmdet take keys out of the settings of their losses
    is_inner = (
        where.startswith('model.')
        and not is_whole
        and not kind.__module__.startswith('mmfaseg.')
    )
    known, is_open = arguments_of(kind)
    known += [*ALWAYS, *TAKEN.get(home, ())]
    for name in part:
        if name in known or (is_open and not _similar(name, known)):
            continue
        # there may be a use for it
        tell = findings.warn if is_open or is_inner else findings.error
        _tell_unknown(f'{where}.{name}', kind.__name__, known, tell)
    if is_whole:
        _check_complete(where, part, kind, findings)


def _stands_at(where: str, home: str) -> bool:
    """Returns whether a part is what a key stands for, or one of several."""
    *_, outer, last = ('', *where.split('.'))
    return last == home or (
        outer == home and (last.isdigit() or home == 'default_hooks')
    )


def _check_complete(
    where: str, part: Mapping, kind: type, findings: Findings
) -> None:
    for name, parameter in inspect.signature(kind).parameters.items():
        named = parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if named and parameter.default is parameter.empty and name not in part:
            findings.error(
                where,
                f'{kind.__name__} needs {name}',
                f'set {where}.{name}',
            )


def _tell_unknown(
    where: str,
    kind: str,
    known: Sequence[str],
    tell: Callable[[str, str, str], None],
) -> None:
    meant = _similar(where.rpartition('.')[2], known)
    names = ', '.join(x for x in known if x not in ALWAYS)
    tell(
        where,
        f'{kind} does not know it',
        f'did you mean {meant}?' if meant else f'it knows {names}',
    )


def _similar(
    name: str, known: Sequence[str], likeness: float = ARGUMENT
) -> str:
    found = difflib.get_close_matches(str(name), known, 1, likeness)
    return found[0] if found else ''
