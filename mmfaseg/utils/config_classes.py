"""Classes that a config names, and their constructor arguments."""

import inspect
from typing import Any

from mmengine import registry as registries
from mmengine.registry import Registry

# the registry from which mmengine builds the value of a config key
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


def init_arguments(kind: type) -> tuple[list[str], bool]:
    """Returns the argument names of a class, and whether it takes others.

    The names of parent classes are included as long as ``**kwargs`` passes
    arguments on to them.

    Returns:
        tuple[list[str], bool]: the names, and whether the class has
        ``**kwargs``.
    """
    names: list[str] = []
    has_var_kwargs = False
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
        has_var_kwargs = True
    return names, has_var_kwargs


def find_class(name: str, registry_key: str, scope: str) -> Any:
    """Returns a class by its name, None if no registry has it.

    Args:
        name (str): with or without its package.
        registry_key (str): config key, whose registry is searched first.
        scope (str): package of names without one.
    """
    own = REGISTRIES.get(registry_key, registries.MODELS)
    others = [x for x in vars(registries).values() if isinstance(x, Registry)]
    for registry in (own, *others):
        with registry.switch_scope_and_registry(scope) as switched:
            found = switched.get(name)
        if found is not None:
            return found
    return None


def registered_names(registry_key: str, scope: str) -> dict[str, str]:
    """Returns the names of all classes that a config key can take.

    Args:
        registry_key (str): config key, see :data:`REGISTRIES`.
        scope (str): package of names without one.

    Returns:
        dict[str, str]: ``'mmdet.DETR'`` for ``'DETR'``; where several packages
        have a class of that name, that of the scope.
    """
    names: dict[str, str] = {}
    waiting = [REGISTRIES.get(registry_key, registries.MODELS)]
    while waiting:
        registry = waiting.pop()
        waiting += registry.children.values()
        for name in registry.module_dict:
            if registry.scope in (scope, 'mmengine'):
                names[name] = name
            else:
                names.setdefault(name, f'{registry.scope}.{name}')
    return names
