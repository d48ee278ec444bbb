"""Classes and masks of the queries merged into scores or labels of pixels.

The score of a class at a pixel is the sum over queries of class probability
times mask probability. At full resolution the masks alone would be the
largest tensor of the whole inference; here a few rows of it exist at a time.

Shapes:
    B: batch size.
    Q: number of queries.
    K: number of classes.
    h, w: size of the masks.
    H, W: size of the result.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .chunks import chunks, is_recording


def merge_scores(
    classes: Tensor, masks: Tensor, size: tuple[int, int]
) -> Tensor:
    """Returns the scores of all classes at all pixels.

    Args:
        classes (Tensor): class probabilities, shape (B, Q, K).
        masks (Tensor): mask logits, queries last, shape (B, h, w, Q).
        size (tuple[int, int]): (H, W).

    Returns:
        Tensor: shape (B, K, H, W); not always contiguous.
    """
    needs_graph = classes.requires_grad or masks.requires_grad
    if needs_graph or is_recording(masks.device):
        return merge_scores_plain(classes, masks, size)
    height, width = size
    batch, _, _, queries = masks.shape
    scores = masks.new_empty(batch, height, width, classes.size(2))
    numbers = width * (queries + classes.size(2))
    for rows in chunks(height, numbers, masks.device):
        for one, chances, pixels in zip(scores, classes, masks, strict=True):
            merge_rows(chances, pixels, size, rows, one[rows])
    return scores.permute(0, 3, 1, 2)


def merge_scores_plain(
    classes: Tensor, masks: Tensor, size: tuple[int, int]
) -> Tensor:
    """Returns the same, by the definition; arguments as above."""
    probability = F.interpolate(
        masks.permute(0, 3, 1, 2), size, mode='bilinear', align_corners=False
    ).sigmoid()
    return torch.einsum('bqk,bqhw->bkhw', classes.to(masks.dtype), probability)


def merge_rows(
    classes: Tensor,
    masks: Tensor,
    size: tuple[int, int],
    rows: slice,
    out: Tensor | None = None,
) -> Tensor:
    """Returns the scores of some rows of one picture.

    Args:
        classes (Tensor): class probabilities, shape (Q, K).
        masks (Tensor): mask logits, shape (h, w, Q).
        size (tuple[int, int]): (H, W).
        rows (slice): r of the H rows.
        out (Tensor, optional): where to write them, contiguous.

    Returns:
        Tensor: shape (r, W, K).
    """
    resized = resize_rows(masks, masks.size(0), 0, size, rows)
    pixels = resized.sigmoid_().flatten(0, 1)
    flat = None if out is None else out.view(-1, classes.size(1))
    scores = torch.mm(pixels, classes.to(masks.dtype), out=flat)
    return scores.unflatten(0, resized.shape[:2])


def label_map(
    read_rows: Callable[[int, int], Tensor],
    shape: tuple[int, int],
    size: tuple[int, int],
    numbers: int,
    device: torch.device,
) -> Tensor:
    """Returns the best class of each pixel of one picture, resized.

    The scores are resized before the best one is taken, as mmseg does, but a
    few rows at a time.

    Args:
        read_rows (Callable): given the first row and the one after the last,
            returns their scores, shape (rows, w, K). Is called for rows that
            never go back.
        shape (tuple[int, int]): (h, w) of the scores.
        size (tuple[int, int]): (H, W) of the label map.
        numbers (int): numbers of the largest intermediate of a row.
        device (torch.device): where the labels are to lie.

    Returns:
        Tensor: int64, shape (H, W).
    """
    labels = torch.empty(size, dtype=torch.int64, device=device)
    rows_read = -(-shape[0] // size[0])  # for one row of the result
    for rows in chunks(size[0], numbers * rows_read, device):
        if shape == size:
            scores = read_rows(rows.start, rows.stop)
        else:
            first, last, _ = _source_rows(shape[0], size[0], rows)
            start, stop = int(first[0]), int(last[-1]) + 1
            scores = read_rows(start, stop)
            scores = resize_rows(scores, shape[0], start, size, rows)
        labels[rows] = scores.argmax(-1)
    return labels


def _source_rows(
    height: int, target: int, rows: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the two rows that each row lies between, and where."""
    numbers = torch.arange(rows.start, rows.stop, dtype=torch.float64)
    place = (numbers + 0.5) * (height / target) - 0.5
    place = place.clamp(min=0)
    first = place.long().clamp(max=height - 1)
    last = (first + 1).clamp(max=height - 1)
    return first, last, place - first


def resize_rows(
    maps: Tensor,
    height: int,
    start: int,
    size: tuple[int, int],
    rows: slice,
) -> Tensor:
    """Returns some rows of a bilinear resize, align_corners=False.

    Args:
        maps (Tensor): rows of the source from ``start`` on, shape
            (any, w, N).
        height (int): of the whole source.
        start (int): first row of ``maps``.
        size (tuple[int, int]): (H, W) of the whole result.
        rows (slice): r of the H rows.

    Returns:
        Tensor: shape (r, W, N).
    """
    first, last, part = _source_rows(height, size[0], rows)
    low = int(first[0])
    source = maps[low - start : int(last[-1]) + 1 - start]
    # two rows each, as a product: much faster than to gather them
    weights = torch.zeros(len(first), len(source), dtype=part.dtype)
    weights.scatter_add_(1, (first - low)[:, None], 1 - part[:, None])
    weights.scatter_add_(1, (last - low)[:, None], part[:, None])
    if source.dtype == torch.float16:
        # an overflow, which the weights of zero would spread over all rows
        limit = torch.finfo(source.dtype).max
        source = source.clamp(-limit, limit)
    with torch.autocast(maps.device.type, enabled=False):
        between = weights.to(maps) @ source.flatten(1)
    between = between.unflatten(1, source.shape[1:])
    planar = between[None].permute(0, 3, 1, 2)  # channels-last strides
    wide = F.interpolate(
        planar,
        (planar.size(2), size[1]),
        mode='bilinear',
        align_corners=False,
    )
    return wide[0].permute(1, 2, 0)
