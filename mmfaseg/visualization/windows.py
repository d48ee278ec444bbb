"""The windows that high-resolution cross-attention reads, in pixels.

Shapes:
    B: batch. Q: queries. K: chosen windows.
    L_0: pixels of the stride-32 map, one window for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .decoder_trace import LayerTrace

STRIDE = 4


@dataclass(frozen=True)
class WindowBox:
    """One chosen window, cropped to the image.

    Attributes:
        rank (int): 1 for the most important window.
        left, top, right, bottom (int): Pixels; right and bottom are
            exclusive.
    """

    rank: int
    left: int
    top: int
    right: int
    bottom: int


def shares_windows(traces: list[LayerTrace]) -> bool:
    """Returns whether a layer chose windows that all queries read."""
    return any(
        trace.window_index is not None and trace.window_index.dim() == 2
        for trace in traces
    )


def last_windows(traces: list[LayerTrace]) -> LayerTrace:
    """Returns the trace of the last layer that chose windows.

    Raises:
        ValueError: If there is none.
    """
    found = [trace for trace in traces if trace.window_index is not None]
    if not found:
        raise ValueError(
            'no traced layer chose windows; use the result of trace_head'
        )
    return max(found, key=lambda trace: trace.layer)


def window_boxes(
    trace: LayerTrace, size: tuple[int, int], sample: int = 0
) -> list[WindowBox]:
    """Places the chosen windows on the image, most important first.

    Args:
        trace (LayerTrace): Of a layer that chose windows for all queries.
        size (tuple[int, int]): Height and width of the image, unpadded.
        sample (int): Which image of the batch.

    Returns:
        list[WindowBox]: At most K: windows in the padding are left out, the
        ranks of the others stay as they are.

    Raises:
        ValueError: If the layer has no windows, or an index is out of range.
    """
    if (
        trace.window_index is None
        or trace.window_grid is None
        or trace.window_size is None
    ):
        raise ValueError(f'layer {trace.layer} has no windows')
    rows, columns = trace.window_grid
    index = trace.window_index[sample].tolist()
    if min(index) < 0 or max(index) >= rows * columns:
        raise ValueError(
            f'layer {trace.layer}: windows {index} on a grid of '
            f'{trace.window_grid}'
        )
    side = trace.window_size * STRIDE
    boxes = []
    for rank, window in enumerate(index, start=1):
        row, column = divmod(window, columns)
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
