"""Where a positional query would look by itself.

Shapes:
    N: queries.
    C: embed_dims.
    L: pixels of a level.
    h: number of heads.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mmfaseg.models.layers import MultiheadAttention


@torch.no_grad()
def positional_preference(
    attn: 'MultiheadAttention', query_pos: Tensor, position: Tensor
) -> Tensor:
    """Returns the attention of a layer if positions were all it saw.

    The scores of a head hold four products: content or position of the query
    with content or position of the key. This is the one of both positions,
    as the layer itself weighs it: with p the positional query, K_p the
    positional encodings and W_q, W_k the projections of a head with d
    channels, ``softmax(W_q p · W_k K_p / sqrt(d))``, averaged over the heads.
    Nothing is blocked.

    Args:
        attn (MultiheadAttention): the cross-attention of the layer.
        query_pos (Tensor): p, shape (N, C).
        position (Tensor): K_p, shape (C, L).

    Returns:
        Tensor: float32, shape (N, L), rows sum to 1.
    """
    heads = attn.num_heads
    to_query, to_key, _ = attn.in_proj_weight.float().chunk(3)
    query = (query_pos.float() @ to_query.T).unflatten(1, (heads, -1))
    key = (to_key @ position.float()).unflatten(0, (heads, -1))  # (h, d, L)
    query = query * query.size(2) ** -0.5
    total = query.new_zeros(query.size(0), key.size(2))
    for head in range(heads):
        total += (query[:, head] @ key[head]).softmax(-1)
    return total / heads
