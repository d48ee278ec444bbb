"""Numbers about where queries look.

Shapes:
    N: queries.
    H_l, W_l: the map of a level.
"""

import numpy as np


def entropy(attention: np.ndarray) -> np.ndarray:
    """Returns how widely each query looks.

    Args:
        attention (np.ndarray): shape (N, H_l, W_l), each sums to 1.

    Returns:
        np.ndarray: shape (N,), entropy over its largest possible value: 0
        where one pixel has it all, 1 where all have the same.
    """
    p = attention.reshape(len(attention), -1).astype(np.float64)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return -(p * logs).sum(1) / max(np.log(p.shape[1]), 1e-12)


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns what two distributions have in common.

    Args:
        first (np.ndarray): shape (N, H_l, W_l), each sums to 1.
        second (np.ndarray): likewise.

    Returns:
        np.ndarray: shape (N,), sum of the lower of both, 0 to 1.
    """
    return np.minimum(first, second).sum((1, 2), dtype=np.float64)


def centres(attention: np.ndarray, stride: int) -> np.ndarray:
    """Returns the mean place that each query looks at.

    Args:
        attention (np.ndarray): shape (N, H_l, W_l), each sums to 1.
        stride (int): pixels of the picture per cell, along each side.

    Returns:
        np.ndarray: x and y in pixels of the picture, shape (N, 2).
    """
    rows = (np.arange(attention.shape[1]) + 0.5) * stride
    columns = (np.arange(attention.shape[2]) + 0.5) * stride
    p = attention.astype(np.float64)
    return np.stack([p.sum(1) @ columns, p.sum(2) @ rows], 1)


def turns(vectors: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Returns how far vectors have turned: 1 less the cosine, 0 to 2.

    Args:
        vectors (np.ndarray): shape (N, C).
        before (np.ndarray): likewise.

    Returns:
        np.ndarray: shape (N,); 0 for a vector of zeros.
    """
    now, then = vectors.astype(np.float64), before.astype(np.float64)
    products = (now * then).sum(1)
    norms = np.linalg.norm(now, axis=1) * np.linalg.norm(then, axis=1)
    cosine = np.divide(
        products, norms, out=np.ones_like(products), where=norms > 0
    )
    return 1 - cosine.clip(-1, 1)


def changes(masks: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Returns how much masks have changed: 1 less the IoU, 0 to 1.

    Args:
        masks (np.ndarray): probabilities, shape (N, H_l, W_l).
        before (np.ndarray): likewise.

    Returns:
        np.ndarray: shape (N,); 0 where both are empty.
    """
    now, then = masks > 0.5, before > 0.5
    both = (now & then).sum((1, 2))
    either = (now | then).sum((1, 2))
    return 1 - np.divide(
        both, either, out=np.ones(len(masks)), where=either > 0
    )
