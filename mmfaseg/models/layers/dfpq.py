"""Dynamic focus-aware positional queries (FASeg, section 3.2).

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    L: number of pixels of a level, H * W.
"""

import torch
from torch import Tensor, nn

POOLS = ('background', 'foreground')


class DynamicFocusAwareQuery(nn.Module):
    """Positional queries made from where the previous block looked.

    With A the head-averaged cross-attention of a block, K_p the positional
    encoding of the level it looked at, ``static`` the learned part and h an
    MLP shared by all blocks::

        query_pos = h(A · K_p + static)

    The first block has no attention before it. There K_p of stride 32 is
    averaged over the pixels that the initial mask of a query leaves out
    (``background``, which the released weights need) or takes in
    (``foreground``, which is how the text of the paper reads).

    Args:
        embed_dims (int): C.
        initial_pool (str): ``'background'`` or ``'foreground'``.

    Raises:
        ValueError: if ``initial_pool`` is neither.
    """

    def __init__(
        self, embed_dims: int, initial_pool: str = 'background'
    ) -> None:
        super().__init__()
        if initial_pool not in POOLS:
            raise ValueError(
                f'initial_pool must be one of {POOLS}, got {initial_pool!r}'
            )
        self.initial_pool = initial_pool
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, embed_dims),
            nn.ReLU(inplace=True),
            nn.Linear(embed_dims, embed_dims),
        )

    def initial(
        self, static: Tensor, position: Tensor, mask_probability: Tensor
    ) -> Tensor:
        """Returns the positional queries of the first block.

        Args:
            static (Tensor): learned part, shape (B, Q, C).
            position (Tensor): K_p of stride 32, shape (B, C, H, W).
            mask_probability (Tensor): initial masks at that size, 0 to 1,
                shape (B, Q, H, W). Nothing flows back through them.

        Returns:
            Tensor: shape (B, Q, C).
        """
        outside = mask_probability.detach().flatten(2) < 0.5
        pool = outside if self.initial_pool == 'background' else ~outside
        # counts in half precision would lose the 1e-6 of an empty pool
        weights = pool.to(torch.promote_types(position.dtype, torch.float32))
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
        return self.update(static, position, weights.to(position.dtype))

    def update(
        self, static: Tensor, position: Tensor, attention: Tensor
    ) -> Tensor:
        """Returns the positional queries of the blocks after this one.

        Args:
            static (Tensor): learned part, shape (B, Q, C).
            position (Tensor): K_p of the block's level, shape (B, C, H, W).
            attention (Tensor): head-averaged cross-attention of the block,
                shape (B, Q, L); the gradient flows through it.

        Returns:
            Tensor: shape (B, Q, C).
        """
        focus = attention @ position.flatten(2).transpose(1, 2)
        return self.mlp(focus + static)
