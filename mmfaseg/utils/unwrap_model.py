"""The model inside of what several processes wrap it in."""

from typing import Any

from mmengine.model import is_model_wrapper


def unwrap_model(model: Any) -> Any:
    """Returns the model itself, wrapped or not."""
    return model.module if is_model_wrapper(model) else model
