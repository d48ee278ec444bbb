"""The order in which Swin's patch merging stacks the pixels of a patch.

Swin's own program stacks the pixels (y, x) as (0, 0), (1, 0), (0, 1), (1, 1),
all channels of a pixel together. MMSegmentation merges with
``torch.nn.Unfold``: the four pixels of a channel together, row by row.

Shapes:
    C: channels before merging.
"""

import re
from collections.abc import Callable

from torch import Tensor

ORDER = [0, 2, 1, 3]  # row by row from column by column, and back


def reorder(
    name: str, value: Tensor, order: Callable[[Tensor], Tensor]
) -> tuple[Tensor, str]:
    """Returns an entry as patch merging needs it, and what was done.

    Args:
        name (str): our name of the entry; others are returned as they are.
        value (Tensor): a tensor that cannot be of four pixels is returned as
            it is.
        order (Callable): :func:`to_unfold_order` or
            :func:`from_unfold_order`.
    """
    merges = re.fullmatch(r'backbone\.stages\.\d+\.downsample\..*', name)
    if not merges or not value.dim() or value.size(-1) % 4:
        return value, ''
    return order(value), 'order of merged patches'


def to_unfold_order(value: Tensor) -> Tensor:
    """Returns a norm (4C,) or a reduction (2C, 4C) in the order of Unfold."""
    return value.unflatten(-1, (4, -1))[..., ORDER, :].mT.flatten(-2)


def from_unfold_order(value: Tensor) -> Tensor:
    """Undoes :func:`to_unfold_order`."""
    return value.unflatten(-1, (-1, 4)).mT[..., ORDER, :].flatten(-2)
