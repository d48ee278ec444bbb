"""Registration of all classes of this package."""


def register_all_modules(init_default_scope: bool = True) -> None:
    """Registers all classes of this package.

    mmengine calls this function in ``mmengine.hub`` and in registries.

    Args:
        init_default_scope (bool): not used; passed by mmengine. Configs of
            this package set their own ``default_scope``.
    """
    from .. import datasets, engine, evaluation, models  # noqa: F401
