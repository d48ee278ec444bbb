"""Class names in configs."""

from collections.abc import Mapping
from typing import Any

# transforms that load label maps
LOAD_LABELS = ('LoadAnnotations', 'LoadCheckedAnnotations')


def type_name(settings: Any) -> str:
    """Returns the class name of a config dict, without its scope."""
    kind = settings.get('type') if isinstance(settings, Mapping) else settings
    if isinstance(kind, str):
        return kind.rsplit('.', 1)[-1]
    return kind.__name__ if isinstance(kind, type) else type(kind).__name__
