"""Measures of attention, and attention computed from positions only.

Shapes:
    N: number of queries.
    H_l, W_l: size of a level.
    C: embed_dims.
    L: number of pixels of a level.
    h: number of heads.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor

if TYPE_CHECKING:
    from mmfaseg.models.layers import MultiheadAttention

NEARLY_UNIFORM = 0.95  # minimum entropy of nearly uniform attention


def entropy(attention: np.ndarray, cells: int | np.ndarray) -> np.ndarray:
    """Returns the normalized entropy of the attention of each query, (N,).

    It is 0 if one cell gets all attention and 1 if attention is uniform over
    the ``cells`` that all queries, or each query, can attend to. Each map of
    ``attention``, shape (N, H_l, W_l), sums to 1.
    """
    values = entr(attention.astype(np.float64)).sum((1, 2))
    values = values / np.log(np.maximum(cells, 2))
    return values.clip(0) + 0.0  # turns -0.0 into 0.0


def describe_entropy(value: float) -> str:
    """Formats a normalized entropy and marks nearly uniform attention."""
    uniform = ', nearly uniform' if value >= NEARLY_UNIFORM else ''
    return f'{value:.2f}{uniform}'


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the sum of the minimum of two distributions, 0 to 1, (N,).

    Each map of the arguments, shape (N, H_l, W_l), sums to 1.
    """
    return np.minimum(first, second).sum((1, 2), dtype=np.float64)


def centers(
    attention: np.ndarray, stride: int, size: tuple[int, int]
) -> np.ndarray:
    """Returns the center of the attention of each query, x and y, (N, 2).

    Units are pixels of the image, whose height and width are ``size``; a cell
    covers ``stride`` of them along each side. Attention in the padding is
    ignored. The result for attention to the padding only is the center of the
    image. Each map of ``attention``, shape (N, H_l, W_l), sums to 1.
    """
    starts = [np.arange(0, length, stride) for length in size]
    rows, columns = (
        (start + np.minimum(start + stride, length)) / 2
        for start, length in zip(starts, size, strict=True)
    )
    p = attention[:, : len(rows), : len(columns)].astype(np.float64)
    total = p.sum((1, 2))[:, None]
    sums = np.stack([p.sum(1) @ columns, p.sum(2) @ rows], 1)
    middle = np.full(sums.shape, (size[1] / 2, size[0] / 2))
    return np.divide(sums, total, out=middle, where=total > 0)


def turns(vectors: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Returns 1 minus the cosine of each pair of vectors, 0 to 2, (N,).

    The vectors have shape (N, C). The result for a vector of zeros is 0.
    """
    now, then = vectors.astype(np.float64), before.astype(np.float64)
    products = (now * then).sum(1)
    norms = np.linalg.norm(now, axis=1) * np.linalg.norm(then, axis=1)
    cosine = np.divide(
        products, norms, out=np.ones_like(products), where=norms > 0
    )
    return 1 - cosine.clip(-1, 1)


def changes(masks: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Returns 1 minus the IoU of each pair of masks, 0 to 1, (N,).

    Masks are probabilities, shape (N, H_l, W_l). The result for two empty
    masks is 0.
    """
    now, then = masks > 0.5, before > 0.5
    both = (now & then).sum((1, 2))
    either = (now | then).sum((1, 2))
    return 1 - np.divide(
        both, either, out=np.ones(len(masks)), where=either > 0
    )


def nan_mean(parts: Sequence[np.ndarray]) -> float:
    """Returns the mean of all values that are not NaN; NaN if none remain."""
    return float(torch.from_numpy(np.concatenate(parts)).nanmean())


@torch.no_grad()
def positional_preference(
    attn: 'MultiheadAttention', query_pos: Tensor, position: Tensor
) -> Tensor:
    """Returns the attention of a layer computed from positions only.

    The scores of a head are the sum of four products: content or position of
    the query with content or position of the key. This function uses only the
    product of both positions, ``softmax(W_q p · W_k K_p / sqrt(d))``, averaged
    over the heads. p is the positional query, K_p the positional encoding, and
    W_q and W_k are the projections of a head with d channels. Biases and the
    attention mask are ignored.

    Args:
        attn (MultiheadAttention): The cross-attention of the layer.
        query_pos (Tensor): p, shape (N, C).
        position (Tensor): K_p, shape (C, L).

    Returns:
        Tensor: float32, shape (N, L), each row sums to 1.
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
