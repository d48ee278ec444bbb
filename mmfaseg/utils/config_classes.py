"""Lookup of classes in configs and their constructor arguments."""

import inspect
from collections.abc import Mapping
from typing import Any

from mmengine import list_from_file
from mmengine import registry as registries
from mmengine.registry import Registry

from .type_name import type_name

WRAPPERS = ('RepeatDataset', 'ClassBalancedDataset', 'MultiImageMixDataset')
# registries from which mmengine builds the values of config keys
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


def init_arguments(cls: type) -> tuple[list[str], bool]:
    """Returns the constructor arguments of a class.

    Arguments of parent classes that receive its ``**kwargs`` are included.

    Returns:
        tuple[list[str], bool]: the argument names, and whether the class
        accepts ``**kwargs``.
    """
    names: list[str] = []
    has_var_kwargs = False
    for parent in cls.__mro__:
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


def required_arguments(cls: type) -> list[str]:
    """Returns the constructor arguments without a default."""
    return [
        x.name
        for x in inspect.signature(cls).parameters.values()
        if x.kind in (x.POSITIONAL_OR_KEYWORD, x.KEYWORD_ONLY)
        and x.default is x.empty
    ]


def dataset_metainfo(settings: Mapping, scope: str) -> dict[str, Any]:
    """Returns the ``metainfo`` of a dataset without building it.

    ``type`` in its settings is a name or a class. A wrapper of datasets has
    the ``metainfo`` of the first.
    """
    _, settings = unwrap_datasets(settings, '')[0]
    kind = settings.get('type')
    if isinstance(kind, str):
        kind = find_class(kind, 'dataset', scope)
    meta = {
        **getattr(kind, 'METAINFO', {}),
        **(settings.get('metainfo') or {}),
    }
    classes = meta.get('classes')
    if isinstance(classes, str):  # a file with one name per line
        meta['classes'] = list_from_file(classes)
    return meta


def unwrap_datasets(settings: Mapping, key: str) -> list[tuple[str, Mapping]]:
    """Returns config key and settings of each dataset in a wrapper."""
    kind = type_name(settings)
    if kind in WRAPPERS:
        return unwrap_datasets(settings['dataset'], f'{key}.dataset')
    if kind == 'ConcatDataset':
        return [
            part
            for number, each in enumerate(settings['datasets'])
            for part in unwrap_datasets(each, f'{key}.datasets.{number}')
        ]
    return [(key, settings)]


def split_dataset(cfg: Mapping, split: str) -> Mapping:
    """Returns the dataset settings of a split: train, val or test.

    Raises:
        ValueError: if the config has no dataloader for it.
    """
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        raise ValueError(f'the config has no {split}_dataloader')
    return loader['dataset']


def find_class(name: str, registry_key: str, scope: str) -> Any:
    """Returns a registered class, or None if there is none.

    The registry of the key, see :data:`REGISTRIES`, is searched first.
    """
    first = REGISTRIES.get(registry_key, registries.MODELS)
    others = [x for x in vars(registries).values() if isinstance(x, Registry)]
    for registry in (first, *others):
        with registry.switch_scope_and_registry(scope) as switched:
            cls = switched.get(name)
        if cls is not None:
            return cls
    return None


def registered_names(registry_key: str, scope: str) -> dict[str, str]:
    """Returns the classes that are valid for a key of :data:`REGISTRIES`.

    Returns:
        dict[str, str]: names with scope by name, such as ``'mmdet.DETR'`` for
        ``'DETR'``. Classes of the default scope and of mmengine take
        precedence and need no scope.
    """
    names: dict[str, str] = {}
    registries_left = [REGISTRIES.get(registry_key, registries.MODELS)]
    while registries_left:
        registry = registries_left.pop()
        registries_left += registry.children.values()
        for name in registry.module_dict:
            if registry.scope in (scope, 'mmengine'):
                names[name] = name
            else:
                names.setdefault(name, f'{registry.scope}.{name}')
    return names
