"""The order in which Swin's patch merging stacks the pixels of a patch.

Swin's own program stacks the pixels (y, x) as (0, 0), (1, 0), (0, 1), (1, 1),
all channels of a pixel together. MMSegmentation merges with
``torch.nn.Unfold``: the four pixels of a channel together, row by row.

Shapes:
    C: channels before merging.
"""

import re

from torch import Tensor

ORDER = [0, 2, 1, 3]  # row by row from column by column, and back


def is_patch_merging(name: str, value: Tensor) -> bool:
    """Returns whether an entry of our model is affected.

    A tensor that cannot be of four pixels is not: it is misshapen.
    """
    merges = re.fullmatch(r'backbone\.stages\.\d+\.downsample\..*', name)
    return bool(merges) and value.dim() > 0 and value.size(-1) % 4 == 0


def to_unfold_order(value: Tensor) -> Tensor:
    """Returns a norm (4C,) or a reduction (2C, 4C) in the order of Unfold."""
    return value.unflatten(-1, (4, -1))[..., ORDER, :].mT.flatten(-2)


def from_unfold_order(value: Tensor) -> Tensor:
    """Undoes :func:`to_unfold_order`."""
    return value.unflatten(-1, (-1, 4)).mT[..., ORDER, :].flatten(-2)
