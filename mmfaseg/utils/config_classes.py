"""Which class a part of a config is for, and what it takes."""

import inspect
from typing import Any

from mmengine import registry as registries
from mmengine.registry import Registry

# where mmengine builds what, by the key that it stands under
REGISTRIES: dict[str, Registry] = {
    'model': registries.MODELS,
    'tta_model': registries.MODELS,
    'data_preprocessor': registries.MODELS,
    'dataset': registries.DATASETS,
    'datasets': registries.DATASETS,
    'sampler': registries.DATA_SAMPLERS,
    'batch_sampler': registries.DATA_SAMPLERS,
    'pipeline': registries.TRANSFORMS,
    'transforms': registries.TRANSFORMS,
    'tta_pipeline': registries.TRANSFORMS,
    'val_evaluator': registries.METRICS,
    'test_evaluator': registries.METRICS,
    'default_hooks': registries.HOOKS,
    'custom_hooks': registries.HOOKS,
    'optim_wrapper': registries.OPTIM_WRAPPERS,
    'optimizer': registries.OPTIMIZERS,
    'param_scheduler': registries.PARAM_SCHEDULERS,
    'train_cfg': registries.LOOPS,
    'val_cfg': registries.LOOPS,
    'test_cfg': registries.LOOPS,
    'visualizer': registries.VISUALIZERS,
    'vis_backends': registries.VISBACKENDS,
    'log_processor': registries.LOG_PROCESSORS,
    'strategy': registries.STRATEGIES,
}


def arguments_of(kind: type) -> tuple[list[str], bool]:
    """Returns the names of the arguments of a class, and if there are more.

    Classes that take any argument hand it on to their parents; nobody can
    know whether all of it.
    """
    names: list[str] = []
    is_open = False
    for parent in kind.__mro__:
        init = vars(parent).get('__init__')
        if init is None or parent is object:
            continue
        parameters = inspect.signature(init).parameters.values()
        names += [
            x.name
            for x in parameters
            if x.kind in (x.POSITIONAL_OR_KEYWORD, x.KEYWORD_ONLY)
            and x.name not in ('self', *names)
        ]
        if all(x.kind != x.VAR_KEYWORD for x in parameters):
            break
        is_open = True
    return names, is_open


def find_class(name: str, home: str, scope: str) -> Any:
    """Returns a class by its name, None if no registry has it.

    Args:
        name (str): with or without its package.
        home (str): key that it stands under; other registries come after.
        scope (str): package of names without one.
    """
    own = REGISTRIES.get(home, registries.MODELS)
    others = [x for x in vars(registries).values() if isinstance(x, Registry)]
    for registry in (own, *others):
        with registry.switch_scope_and_registry(scope) as switched:
            found = switched.get(name)
        if found is not None:
            return found
    return None


def names_below(home: str, scope: str) -> dict[str, str]:
    """Returns all names that can stand under a key, as they are written.

    Args:
        home (str): the key.
        scope (str): package of names without one.

    Returns:
        dict[str, str]: ``'mmdet.DETR'`` for ``'DETR'``; where several packages
        have a class of that name, that of the scope.
    """
    names: dict[str, str] = {}
    waiting = [REGISTRIES.get(home, registries.MODELS)]
    while waiting:
        registry = waiting.pop()
        waiting += registry.children.values()
        for name in registry.module_dict:
            if registry.scope in (scope, 'mmengine'):
                names[name] = name
            else:
                names.setdefault(name, f'{registry.scope}.{name}')
    return names
