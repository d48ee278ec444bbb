"""Channel order of Swin's patch merging.

The original Swin concatenates the pixels (y, x) of a patch in the order
(0, 0), (1, 0), (0, 1), (1, 1), with all channels of a pixel together.
MMSegmentation uses ``torch.nn.Unfold``: the four pixels of a channel together,
row by row.

Shapes:
    C: channels before merging.
"""

import re
from collections.abc import Callable

from torch import Tensor

ORDER = [0, 2, 1, 3]  # between column-major and row-major, its own inverse


def reorder(
    name: str, value: Tensor, order: Callable[[Tensor], Tensor]
) -> tuple[Tensor, str]:
    """Applies ``order`` to the parameters of patch merging.

    Returns:
        tuple[Tensor, str]: the entry, and a note for the report. Entries of
        other modules, by their name in mmfaseg, are returned unchanged.
    """
    is_merging = re.fullmatch(r'backbone\.stages\.\d+\.downsample\..*', name)
    if not is_merging or not value.dim() or value.size(-1) % 4:
        return value, ''
    return order(value), 'patch merging reordered'


def to_unfold_order(value: Tensor) -> Tensor:
    """Reorders a norm (4C,) or a reduction (2C, 4C) for Unfold."""
    return value.unflatten(-1, (4, -1))[..., ORDER, :].mT.flatten(-2)


def from_unfold_order(value: Tensor) -> Tensor:
    """Inverts :func:`to_unfold_order`."""
    return value.unflatten(-1, (-1, 4)).mT[..., ORDER, :].flatten(-2)
