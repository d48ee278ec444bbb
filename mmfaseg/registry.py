"""Registry nodes of mmfaseg.

Each node is a child of mmengine's root registry with the scope ``mmfaseg``,
so that a config with ``default_scope = 'mmseg'`` can use each class by its
prefixed name, for example ``dict(type='mmfaseg.FASegHead')``.
"""

from mmengine import registry
from mmengine.registry import Registry


def _make_node(parent: Registry, module: str) -> Registry:
    """Returns a child registry whose classes are defined in a module."""
    return Registry(
        parent.name, parent=parent, scope='mmfaseg', locations=[module]
    )


MODELS = _make_node(registry.MODELS, 'mmfaseg.models')
DATASETS = _make_node(registry.DATASETS, 'mmfaseg.datasets')
TRANSFORMS = _make_node(registry.TRANSFORMS, 'mmfaseg.datasets')
METRICS = _make_node(registry.METRICS, 'mmfaseg.evaluation')
HOOKS = _make_node(registry.HOOKS, 'mmfaseg.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _make_node(
    registry.OPTIM_WRAPPER_CONSTRUCTORS, 'mmfaseg.engine'
)
OPTIM_WRAPPERS = _make_node(registry.OPTIM_WRAPPERS, 'mmfaseg.engine')
STRATEGIES = _make_node(registry.STRATEGIES, 'mmfaseg.engine')
