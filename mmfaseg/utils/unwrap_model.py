"""Access to a model inside a distributed wrapper."""

from typing import Any

from mmengine.model import is_model_wrapper


def unwrap_model(model: Any) -> Any:
    """Returns the model, without its wrapper if it has one."""
    return model.module if is_model_wrapper(model) else model
