"""Environment information and registration of modules."""

from .stack_info import StackInfo, log_stack_info, stack_info

__all__ = ['StackInfo', 'log_stack_info', 'register_all_modules', 'stack_info']


def register_all_modules(init_default_scope: bool = True) -> None:
    """Registers all classes of this package.

    ``mmengine.hub`` and mmengine's registries call this function.

    Args:
        init_default_scope (bool): not used, but passed by mmengine. Configs of
            this package set ``default_scope`` themselves.
    """
    from .. import datasets, engine, evaluation, models  # noqa: F401
