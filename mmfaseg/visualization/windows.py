"""The windows that high-resolution cross-attention reads, in pixels.

Shapes:
    B: batch. Q: queries. K: chosen windows.
    L_0: pixels of the stride-32 map, one window for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mmfaseg.models.layers.decoder_output import BlockTrace

STRIDE = 4


@dataclass(frozen=True)
class WindowBox:
    """One chosen window on the picture, cut at the picture's border.

    Attributes:
        rank (int): 1 for the most important window.
        left, top, right, bottom (int): Pixels; right and bottom lie outside.
    """

    rank: int
    left: int
    top: int
    right: int
    bottom: int


def shares_windows(traces: list[BlockTrace]) -> bool:
    """Returns whether a block chose windows that all queries read."""
    return any(
        trace.window_index is not None and trace.window_index.dim() == 2
        for trace in traces
    )


def last_windows(traces: list[BlockTrace]) -> BlockTrace:
    """Returns the trace of the last block that chose windows.

    Raises:
        ValueError: If there is none.
    """
    found = [trace for trace in traces if trace.window_index is not None]
    if not found:
        raise ValueError(
            'no traced block chose windows; take the output of FASegHead.trace'
        )
    return max(found, key=lambda trace: trace.block)


def window_importance(
    traces: list[BlockTrace], block: int, sample: int = 0
) -> tuple[BlockTrace, np.ndarray]:
    """Returns what a block of windows chose by.

    That is the attention of the latest block before it at stride 32 (or 16 or
    8, if the decoder says so), summed over the queries and the pixels of each
    window.

    Args:
        traces (list[BlockTrace]): All blocks.
        block (int): Number of the block that chose windows.
        sample (int): Which picture of the batch.

    Returns:
        tuple[BlockTrace, np.ndarray]: That block and the importance, float32,
        shape (H_0, W_0).

    Raises:
        ValueError: If no such block comes before ``block``.
    """
    (chosen,) = (trace for trace in traces if trace.block == block)
    level = chosen.importance_level or 0
    before = [
        trace
        for trace in traces
        if trace.level == level and trace.block < block
    ]
    if not before:
        raise ValueError(
            f'no stride-{32 >> level} attention before block {block}'
        )
    source = max(before, key=lambda trace: trace.block)
    # as the decoder does; imported late, as only traced networks come here
    from mmfaseg.models.layers.hrca import window_importance as sum_windows

    importance = sum_windows(
        source.attention[sample : sample + 1].detach().float().flatten(2),
        source.shape,
        chosen.window_grid or source.shape,
        2**level,
    )
    return source, importance[0].cpu().numpy()


def window_boxes(
    trace: BlockTrace,
    importance: np.ndarray,
    size: tuple[int, int],
    sample: int = 0,
) -> list[WindowBox]:
    """Places the chosen windows on the picture, most important first.

    Args:
        trace (BlockTrace): Of a block that chose windows.
        importance (np.ndarray): Shape (H_0, W_0).
        size (tuple[int, int]): Height and width of the picture, unpadded.
        sample (int): Which picture of the batch.

    Returns:
        list[WindowBox]: At most K: windows that lie wholly in the padding are
        left out, the ranks of the others stay as they are.

    Raises:
        ValueError: If the window grid is incomplete, does not fit the
            importance, or an index lies outside of it.
    """
    if (
        trace.window_index is None
        or trace.window_grid is None
        or trace.window_size is None
    ):
        raise ValueError(f'block {trace.block} has no windows')
    if importance.shape != tuple(trace.window_grid):
        raise ValueError(
            f'block {trace.block}: importance of shape {importance.shape} on '
            f'a window grid of {tuple(trace.window_grid)}'
        )
    index = trace.window_index[sample].cpu().numpy()
    if ((index < 0) | (index >= importance.size)).any():
        raise ValueError(
            f'block {trace.block}: windows {index.tolist()} on a grid of '
            f'{importance.size}'
        )
    side = trace.window_size * STRIDE
    order = np.argsort(-importance.ravel()[index], kind='stable')
    boxes = []
    for rank, window in enumerate(index[order].tolist(), start=1):
        row, column = divmod(window, importance.shape[1])
        top, left = row * side, column * side
        if top >= size[0] or left >= size[1]:
            continue
        boxes.append(
            WindowBox(
                rank=rank,
                left=left,
                top=top,
                right=min(left + side, size[1]),
                bottom=min(top + side, size[0]),
            )
        )
    return boxes
