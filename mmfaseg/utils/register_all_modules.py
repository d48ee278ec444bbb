"""The function that ``mmengine.hub`` calls before it builds a model."""


def register_all_modules() -> None:
    """Register all classes of this package."""
    from .. import datasets, engine, evaluation, models  # noqa: F401
