"""Figure of query masks, cross-attention and HRCA windows.

Shapes:
    H, W: height and width of the network input, without padding.
    H_3, W_3: size of the masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import mmcv
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .attention_maps import (
    COLOR_MAP,
    DENSITY_RANGE,
    overlay_density,
    to_density,
    upsample,
)
from .canvas import FONT_SIZE, blend, draw_outline, make_panels, show_image
from .explorer.measures import describe_entropy
from .explorer.views import Exploration, LayerView, WindowBox
from .objects import Objects, mask_ious

MASK_STRIDE, COARSEST_STRIDE = 4, 32
NUM_QUERIES = 4  # rows of the figure, at most
NUMBERED_WINDOWS = 24
FOOTER = 0.55  # inches, for the color bar


@dataclass(frozen=True)
class ChosenQuery:
    """A query that is drawn.

    Attributes:
        row (int): Its row in the fields of the exploration.
        label (int): Its class.
        score (float): Class probability times the mean mask probability
            inside its mask, in 0..1.
        iou (float | None): IoU of its mask with the best ground truth segment
            of its class; None without ground truth.
        mask (np.ndarray): bool, shape (H, W).
    """

    row: int
    label: int
    score: float
    iou: float | None
    mask: np.ndarray


def choose_queries(
    view: Exploration, ground_truth: Objects | None = None
) -> list[ChosenQuery]:
    """Selects up to ``NUM_QUERIES`` queries of distinct classes, best first.

    With ground truth, queries whose masks match a segment of their class best
    (IoU) come first, otherwise those with the highest score. Queries with the
    class "no object" or an empty mask are never selected.

    Args:
        view (Exploration): Result of :func:`explore`.
        ground_truth (Objects, optional): Segments of the image.
    """
    size = view.image.shape[0], view.image.shape[1]
    scores = view.layers[-1].scores
    found = []
    for row in np.flatnonzero(scores.argmax(1) < len(view.classes)):
        values = upsample(view.layers[-1].masks[row, None], MASK_STRIDE, size)
        mask = values[0] > 0.5
        if not mask.any():
            continue
        label = int(scores[row].argmax())
        score = float(scores[row, label] * values[0][mask].mean())
        iou = None
        if ground_truth is not None:
            iou = _best_iou(mask, label, ground_truth)
        found.append(ChosenQuery(int(row), label, score, iou, mask))
    found.sort(key=lambda x: x.score if x.iou is None else x.iou, reverse=True)
    chosen: dict[int, ChosenQuery] = {}
    for query in found:
        chosen.setdefault(query.label, query)
    return list(chosen.values())[:NUM_QUERIES]


def _best_iou(mask: np.ndarray, label: int, ground_truth: Objects) -> float:
    masks = ground_truth.masks[ground_truth.labels == label]
    resized = [
        mmcv.imresize(x.astype(np.uint8), mask.shape[::-1], False, 'nearest')
        for x in masks
    ]
    ious = [mask_ious(mask[None], x[None] > 0).item() for x in resized]
    return max(ious, default=0.0)


def draw_focus(
    view: Exploration, ground_truth: Objects | None = None
) -> Figure:
    """Draws where the decoder attends in one image.

    The first row shows the image, the prediction and, if all queries share
    windows of the stride-4 map, the importance of the windows and those that
    were selected. Each further row shows one query: its mask, and its
    cross-attention in the last layer of each coarser stride. All attention
    maps have the same color scale, relative to uniform attention.

    Args:
        view (Exploration): Result of :func:`explore`.
        ground_truth (Objects, optional): Segments of the image; see
            :func:`choose_queries`.

    Returns:
        Figure: Ready for :func:`save_figure`.
    """
    queries = choose_queries(view, ground_truth)
    last = {layer.stride: layer for layer in view.layers}
    layers = [last[x] for x in sorted(last, reverse=True) if x > MASK_STRIDE]
    height, width = view.image.shape[:2]
    figure, panels = make_panels(
        1 + len(queries),
        max(4, 1 + len(layers)),
        height / width,
        head=0.4,
        footer=FOOTER,
    )
    _draw_overview(panels[0], view, last.get(MASK_STRIDE))
    for row, query in zip(panels[1:], queries, strict=True):
        _draw_query(row, view, query, layers)
    total = figure.get_size_inches()[1]
    bar = figure.colorbar(
        ScalarMappable(LogNorm(*DENSITY_RANGE), COLOR_MAP),
        cax=figure.add_axes((0.3, 0.38 / total, 0.4, 0.1 / total)),
        orientation='horizontal',
        ticks=[0.1, 1, 10, 100],
        format='{x:g}×',
    )
    bar.ax.tick_params(labelsize=FONT_SIZE, pad=1)
    figure.text(
        0.29,
        0.38 / total,
        'relative to uniform attention',
        fontsize=FONT_SIZE,
        ha='right',
    )
    return figure


def _draw_overview(
    row: np.ndarray, view: Exploration, windows: LayerView | None
) -> None:
    """Draws the first row: image, prediction and windows of all queries."""
    gray = view.image.mean(-1, keepdims=True)
    labels = np.where(
        view.labels[..., None] < 0,
        gray,
        blend(gray, view.palette[view.labels], 0.65),
    )
    show_image(row[0], view.image, 'image', bold=True)
    show_image(row[1], labels.astype(np.uint8), 'prediction', bold=True)
    if windows is None or not windows.windows:
        return
    if windows.importance is not None:
        importance = windows.importance
        density = importance / max(importance.mean(), 1e-12)
        show_image(
            row[2],
            overlay_density(view.image, density, COARSEST_STRIDE),
            f'window importance\nlayer {windows.layer}, all queries',
        )
    attended = np.zeros((*view.image.shape[:2], 1), dtype=bool)
    for box in windows.windows:
        attended[box.top : box.bottom, box.left : box.right] = True
    show_image(
        row[3],
        blend(view.image, np.zeros(3), np.where(attended, 0.0, 0.6)),
        f'HRCA windows\nlayer {windows.layer}, stride {windows.stride}',
    )
    _draw_windows(row[3], windows.windows)


def _draw_query(
    row: np.ndarray,
    view: Exploration,
    query: ChosenQuery,
    layers: list[LayerView],
) -> None:
    """Draws the mask of a query and its attention in some layers."""
    quality = f'score {query.score:.2f}'
    if query.iou is not None:
        quality = f'IoU {query.iou:.2f}'
    gray = view.image.mean(-1, keepdims=True)
    colored = blend(gray, view.palette[query.label], 0.65)
    show_image(
        row[0],
        np.where(query.mask[..., None], colored, view.image),
        f'query {view.queries[query.row]}: {view.classes[query.label]}\n'
        f'{quality}',
        bold=True,
    )
    _draw_mask(row[0], query.mask)
    for axes, layer in zip(row[1:], layers, strict=False):
        density = to_density(layer.attention[query.row])
        show_image(
            axes,
            overlay_density(view.image, density, layer.stride),
            f'layer {layer.layer}, stride {layer.stride}\n'
            f'entropy {describe_entropy(layer.entropy[query.row])}',
        )
        _draw_mask(axes, query.mask)


def _draw_mask(axes: Axes, mask: np.ndarray) -> None:
    for width, color in ((2.0, 'black'), (1.0, 'white')):
        draw_outline(axes, mask, colors=color, linewidths=width)


def _draw_windows(axes: Axes, boxes: list[WindowBox]) -> None:
    """Draws windows, colored by rank, with their ranks if there are few."""
    for box in boxes:
        share = (box.rank - 1) / max(1, boxes[-1].rank - 1)
        axes.add_patch(
            Rectangle(
                (box.left, box.top),
                box.right - box.left,
                box.bottom - box.top,
                fill=False,
                edgecolor=colormaps['plasma'](0.95 - 0.7 * share),
                linewidth=1.5,
            )
        )
        if len(boxes) <= NUMBERED_WINDOWS:
            axes.text(
                (box.left + box.right) / 2,
                (box.top + box.bottom) / 2,
                str(box.rank),
                color='white',
                fontsize=FONT_SIZE,
                weight='bold',
                ha='center',
                va='center',
                bbox=dict(facecolor='black', alpha=0.55, lw=0, pad=1),
            )
