"""Numbers about where queries look.

Shapes:
    N: queries.
    H_l, W_l: the map of a level.
"""

from collections.abc import Sequence

import numpy as np


def entropy(
    attention: np.ndarray, readable: int | np.ndarray | None = None
) -> np.ndarray:
    """Returns how widely each query looks.

    Args:
        attention (np.ndarray): shape (N, H_l, W_l), each sums to 1.
        readable (int | np.ndarray, optional): cells that could be looked at,
            of all queries or of each; all of them by default.

    Returns:
        np.ndarray: shape (N,), entropy over its largest possible value: 0
        where one cell has it all, 1 where all readable ones have the same.
    """
    p = attention.astype(np.float64)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    cells = p.shape[1] * p.shape[2] if readable is None else readable
    most = np.log(np.maximum(cells, 2))
    return -(p * logs).sum((1, 2)) / most


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns what two distributions have in common.

    Args:
        first (np.ndarray): shape (N, H_l, W_l), each sums to 1.
        second (np.ndarray): likewise.

    Returns:
        np.ndarray: shape (N,), sum of the lower of both, 0 to 1.
    """
    return np.minimum(first, second).sum((1, 2), dtype=np.float64)


def centres(
    attention: np.ndarray, stride: int, size: tuple[int, int]
) -> np.ndarray:
    """Returns the mean place in the image that each query looks at.

    What lies in the padding does not count.

    Args:
        attention (np.ndarray): shape (N, H_l, W_l), each sums to 1.
        stride (int): pixels of the image per cell, along each side.
        size (tuple[int, int]): height and width of the image.

    Returns:
        np.ndarray: x and y in pixels of the image, shape (N, 2); its middle
        for a query that looks into the padding alone.
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


def nan_mean(parts: Sequence[np.ndarray]) -> float:
    """Returns the mean of all numbers without NaN; NaN if none is left."""
    numbers = np.concatenate(parts)
    known = numbers[~np.isnan(numbers)]
    return float(known.mean()) if len(known) else float('nan')
