"""Names in a config that nothing knows: found before anything is built.

mmengine ignores a misspelt key of its own, and a class that does not know an
argument says so without a word on where in the config it stands.
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
    arguments_of,
    find_class,
    names_below,
)
from .config_keys import check_keys
from .finding import Findings
from .likeness import CLASS, similar

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
    check_keys(cfg, findings)
    settings = cfg.to_dict()
    for key in (*READ, *LOADERS):
        if key in LOADERS and isinstance(settings.get(key), Mapping):
            _check_loader(key, settings[key], findings)
        for where, part, home in _parts(settings.get(key), key, key):
            _check_part(where, part, home, scope, findings)


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
        meant = similar(name, sorted(names), CLASS)
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
        if name in known or (is_open and not similar(name, known)):
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
    meant = similar(where.rpartition('.')[2], known)
    names = ', '.join(x for x in known if x not in ALWAYS)
    tell(
        where,
        f'{kind} does not know it',
        f'did you mean {meant}?' if meant else f'it knows {names}',
    )
