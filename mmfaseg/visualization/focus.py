"""Where the queries look: masks, cross-attention per level, HRCA windows.

Shapes:
    Q: queries.
    H, W: height and width of the image as the network saw it, unpadded.
    K: number of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .focus_maps import (
    STRIDES,
    attention_maps,
    choose_queries,
    importance_map,
    label_pixels,
    last_attention,
    mask_probabilities,
)
from .sheet import Sheet, check_classes, check_image, panel_size
from .windows import WindowBox, last_windows, shares_windows, window_boxes

if TYPE_CHECKING:
    from .decoder_trace import DecoderTrace

MARGIN = 18
GAP = 10
HEAD = 28
NUMBERED_WINDOWS = 24


@dataclass
class _Panel:
    """One image of the sheet and what is drawn on it."""

    title: str
    image: np.ndarray
    outline: np.ndarray | None = None  # bool, (H, W)
    boxes: list[WindowBox] = field(default_factory=list)


def overlay_heatmap(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lays a heat map over the darkened grey image.

    Args:
        image (np.ndarray): uint8, shape (H, W, 3).
        heat (np.ndarray): float, shape (H, W), in 0..1.

    Returns:
        np.ndarray: uint8, shape (H, W, 3); hot is bright.
    """
    grey = image.mean(-1, keepdims=True) * 0.6
    glow = colormaps['inferno'](heat)[..., :3] * 255
    return _mix(grey, glow, np.sqrt(heat)[..., None] * 0.85)


def draw_focus(
    output: DecoderTrace,
    image: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    sample: int = 0,
    num_queries: int = 4,
    min_score: float = 0.0,
) -> Figure:
    """Draws where the decoder looks in one image.

    The first row shows the image, the prediction and, if all queries share
    windows of the stride-4 map, the windows and the importance that they were
    chosen by. Each further row shows one query: its mask, and its
    cross-attention in the last layer of the strides 32, 16 and 8, each scaled
    to its own maximum.

    Args:
        output (DecoderTrace): Result of :func:`trace_head`.
        image (np.ndarray): uint8, shape (H, W, 3), RGB.
        classes (Sequence[str]): K class names.
        palette (Sequence[Sequence[int]]): K colours, RGB in 0..255.
        sample (int): Which image of the batch.
        num_queries (int): Rows at most; fewer are drawn when the network
            names fewer classes.
        min_score (float): Pixels whose best class scores less stay bare, as
            the ground between the objects of a detector.

    Returns:
        Figure: Ready for :func:`save_figure`.

    Raises:
        ValueError: If trace, image and classes do not fit together.
        TypeError: If the image is not uint8.
    """
    colours = check_classes(classes, palette)
    check_image(image)
    size = image.shape[0], image.shape[1]
    scores, masks = mask_probabilities(output, size, sample)
    if scores.shape[1] != len(classes) + 1:
        raise ValueError(
            f'the network scores {scores.shape[1] - 1} classes and "no '
            f'object", but {len(classes)} names were given'
        )
    labels = label_pixels(scores, masks, min_score)
    bare = np.repeat(image.mean(-1, keepdims=True), 3, -1)
    painted = np.where(
        labels[..., None] < 0, bare, _paint(image, colours[labels])
    ).astype(np.uint8)
    rows = [_overview(output, image, painted, sample)]

    traces = [last_attention(output.traces, level) for level in range(3)]
    heats = [attention_maps(trace, size, sample) for trace in traces]
    for query in choose_queries(scores, masks, num_queries):
        inside = query.mask[..., None]
        name = f'query {query.index} · {classes[query.label]}'
        row = [
            _Panel(
                f'{name} · {query.score:.2f}',
                np.where(inside, _paint(image, colours[query.label]), image),
                query.mask,
            )
        ]
        for trace, heat in zip(traces, heats, strict=True):
            row.append(
                _Panel(
                    f'layer {trace.layer} · stride {STRIDES[trace.level]}',
                    overlay_heatmap(image, heat[query.index]),
                    query.mask,
                )
            )
        rows.append(row)
    return _lay_out(rows, size)


def _overview(
    output: DecoderTrace,
    image: np.ndarray,
    painted: np.ndarray,
    sample: int,
) -> list[_Panel]:
    """Makes the first row, which belongs to no single query."""
    size = image.shape[0], image.shape[1]
    panels = [
        _Panel('image', image),
        _Panel('prediction', painted),
    ]
    if not shares_windows(output.traces):
        return panels
    trace = last_windows(output.traces)
    boxes = window_boxes(trace, size, sample)
    read = np.zeros((*size, 1), dtype=bool)
    for box in boxes:
        read[box.top : box.bottom, box.left : box.right] = True
    if trace.importance is not None:
        importance = trace.importance[sample].float().cpu().numpy()
        panels.append(
            _Panel(
                f'importance · layer {trace.layer}, all queries',
                overlay_heatmap(image, importance_map(importance, size)),
            )
        )
    return [
        *panels,
        _Panel(
            f'HRCA windows · layer {trace.layer} · stride 4',
            _mix(image, np.zeros(3), np.where(read, 0.0, 0.6)),
            boxes=boxes,
        ),
    ]


def _lay_out(rows: list[list[_Panel]], size: tuple[int, int]) -> Figure:
    """Places the panels, four in a row, each under its title."""
    height, width = panel_size(*size)
    sheet = Sheet(
        2 * MARGIN + 4 * width + 3 * GAP,
        len(rows) * (height + HEAD) + MARGIN,
    )
    for n, row in enumerate(rows):
        y = n * (height + HEAD) + HEAD
        for i, panel in enumerate(row):
            x = MARGIN + i * (width + GAP)
            bold = n == 0 or i == 0
            sheet.text(
                panel.title,
                x,
                y - 7,
                size=8.5,
                weight='bold' if bold else 'normal',
            )
            axes = sheet.panel(panel.image, x, y, width, height)
            if panel.outline is not None:
                _draw_outline(axes, panel.outline)
            _draw_boxes(axes, panel.boxes)
    return sheet.figure


def _draw_outline(axes: Axes, mask: np.ndarray) -> None:
    """Draws the border of a mask, also where it meets the image's edge."""
    framed = np.pad(mask.astype(np.float32), 1)
    rows, columns = (np.arange(length) - 0.5 for length in framed.shape)
    for width, colour in ((2.4, 'black'), (1.2, 'white')):
        axes.contour(
            columns, rows, framed, [0.5], colors=colour, linewidths=width
        )


def _draw_boxes(axes: Axes, boxes: list[WindowBox]) -> None:
    """Draws windows, bright ones first in rank, numbered while there is room.

    The rank stands in the middle of the window.
    """
    for box in boxes:
        share = (box.rank - 1) / max(1, boxes[-1].rank - 1)
        axes.add_patch(
            Rectangle(
                (box.left, box.top),
                box.right - box.left,
                box.bottom - box.top,
                fill=False,
                edgecolor=colormaps['plasma'](0.95 - 0.7 * share),
                linewidth=2,
            )
        )
        if len(boxes) <= NUMBERED_WINDOWS:
            axes.text(
                (box.left + box.right) / 2,
                (box.top + box.bottom) / 2,
                str(box.rank),
                color='white',
                fontsize=9,
                weight='bold',
                ha='center',
                va='center',
                bbox={
                    'facecolor': 'black',
                    'alpha': 0.55,
                    'lw': 0,
                    'pad': 1.5,
                },
            )


def _paint(image: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Colours the grey image."""
    return _mix(image.mean(-1, keepdims=True), colours, 0.65)


def _mix(
    under: np.ndarray, over: np.ndarray, alpha: float | np.ndarray
) -> np.ndarray:
    """Blends two arrays that broadcast to (H, W, 3) into a uint8 image."""
    return ((1 - alpha) * under + alpha * over).clip(0, 255).astype(np.uint8)
