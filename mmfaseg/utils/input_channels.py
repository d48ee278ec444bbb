"""Number of channels of the network input."""

from collections.abc import Mapping, Sequence
from typing import Any


def input_channels(model: Mapping[str, Any]) -> int:
    """Returns the number of image channels that a model takes.

    This is the length of ``data_preprocessor.mean``. If there is no mean, or
    one value for all channels, it is ``in_channels`` of the backbone, or 3 if
    the backbone does not set it.
    """
    mean = (model.get('data_preprocessor') or {}).get('mean')
    if isinstance(mean, Sequence) and len(mean) > 1:
        return len(mean)
    return model.get('backbone', {}).get('in_channels', 3)
