"""Views of the layers of a traced decoder.

Shapes:
    N: number of queries that own pixels; those with most pixels come first.
    H, W: height and width of the network input, without padding.
    K: number of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor

from ..canvas import check_classes, check_image
from ..decoder_trace import find_traceable_head, trace_head
from ..input_image import inputs_to_image
from .measures import (
    centers,
    changes,
    entropy,
    overlap,
    positional_preference,
    turns,
)
from .owners import MASK_STRIDE, find_owners
from .views import Exploration, LayerView, WindowBox

if TYPE_CHECKING:
    from mmengine.model import BaseModel

    from ..decoder_trace import DecoderTrace, LayerTrace

STRIDES = (32, 16, 8, 4)  # of levels 0 to 3
MAX_QUERIES = 24


@torch.no_grad()
def explore(
    model: BaseModel,
    item: dict,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    max_queries: int = MAX_QUERIES,
) -> Exploration:
    """Runs a network on one image and returns views of all layers.

    Args:
        model (BaseModel): Segmentor or detector in evaluation mode, with a
            head of mmfaseg.
        item (dict): Output of the test pipeline for the image.
        classes (Sequence[str]): K class names.
        palette (Sequence[Sequence[int]]): K colors, RGB in 0..255.
        max_queries (int): Maximum of N, up to 254.

    Raises:
        ValueError: If the head has no FASegDecoder, arguments do not match,
            or the predictions are not finite.
    """
    head = find_traceable_head(model)
    batch = model.data_preprocessor(pseudo_collate([item]), False)
    return view_trace(
        trace_head(head, model.extract_feat(batch['inputs'])),
        inputs_to_image(item['inputs']),
        classes,
        palette,
        # background pixels of a detector have no class
        min_score=0.5 if hasattr(model, 'panoptic_head') else 0.0,
        max_queries=max_queries,
    )


@torch.no_grad()
def view_trace(
    output: DecoderTrace,
    image: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    min_score: float = 0.0,
    max_queries: int = MAX_QUERIES,
) -> Exploration:
    """Returns views of all layers of a traced decoder.

    Args:
        output (DecoderTrace): Result of :func:`trace_head` for one image.
        image (np.ndarray): uint8, shape (H, W, 3), RGB.
        classes (Sequence[str]): K class names.
        palette (Sequence[Sequence[int]]): K colors, RGB in 0..255.
        min_score (float): Pixels with a lower best score have no class.
        max_queries (int): Maximum of N, up to 254.

    Raises:
        ValueError: If arguments do not match or predictions are not finite.
        TypeError: If the image is not uint8.
    """
    if not 1 <= max_queries <= 254:
        raise ValueError(f'max_queries must be in 1..254, got {max_queries}')
    colors = check_classes(classes, palette)
    check_image(image)
    scores = output.cls_scores[-1][0].float().softmax(-1)
    logits = output.mask_preds[-1][0]
    if scores.shape[1] != len(classes) + 1:
        raise ValueError(
            f'the network predicts {scores.shape[1] - 1} classes, got '
            f'{len(classes)} names'
        )
    if not (scores.isfinite().all() and logits.isfinite().all()):
        raise ValueError(
            'the predictions are not finite: the network has diverged; use '
            'an earlier checkpoint'
        )
    size = image.shape[0], image.shape[1]
    labels, owners = find_owners(scores[:, :-1], logits, size, min_score)
    area = np.bincount(owners[owners >= 0], minlength=len(scores))
    queries = np.argsort(-area, kind='stable')[:max_queries]
    queries = queries[area[queries] > 0]
    place = np.full(len(scores) + 1, -1)
    place[queries] = np.arange(len(queries))
    layer_masks = [
        output.mask_preds[n][0, queries].float().sigmoid().cpu().numpy()
        for n in range(len(output.mask_preds))
    ]
    layer_scores = [
        logits[0, queries].float().softmax(-1).cpu().numpy()
        for logits in output.cls_scores
    ]
    return Exploration(
        image=image,
        classes=list(classes),
        palette=colors,
        labels=labels,
        owners=place[owners],
        queries=queries,
        scores=layer_scores[0],
        layers=_view_layers(
            output.traces, queries, layer_masks, layer_scores, size
        ),
    )


def _view_layers(
    traces: Sequence[LayerTrace],
    queries: np.ndarray,
    masks: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    size: tuple[int, int],
) -> list[LayerView]:
    """Returns views, given masks and scores before and after each layer."""
    views: list[LayerView] = []
    dynamic: np.ndarray | None = None  # latest positional query above stride 4
    for n, trace in enumerate(traces):
        stride = STRIDES[trace.level]
        query_pos = trace.query_pos[0, queries]
        attention = _maps(trace.attention[0, queries], trace)
        unknown = np.full(len(queries), np.nan)
        preference, agreement = np.zeros_like(attention), unknown
        if trace.cross_attn.attn is not None:
            position = trace.position[0].flatten(1)
            values = positional_preference(
                trace.cross_attn.attn, query_pos, position
            )
            preference = _maps(values, trace)
            agreement = overlap(attention, preference)
        turn, vectors = unknown, query_pos.float().cpu().numpy()
        if stride > MASK_STRIDE:
            turn = unknown if dynamic is None else turns(vectors, dynamic)
            dynamic = vectors
        middle = centers(attention, stride, size)
        drift = unknown
        if views:
            shift = np.linalg.norm(middle - views[-1].centers, axis=1)
            drift = shift / np.hypot(*size)
        importance = None
        if trace.importance is not None and trace.importance.dim() == 3:
            importance = trace.importance[0].float().cpu().numpy()
        views.append(
            LayerView(
                layer=trace.layer,
                stride=stride,
                attention=attention,
                preference=preference,
                masks=masks[n + 1],
                scores=scores[n + 1],
                entropy=entropy(attention, _attended_cells(trace, queries)),
                overlap=agreement,
                centers=middle,
                drift=drift,
                turn=turn,
                change=changes(masks[n + 1], masks[n]),
                windows=window_boxes(trace, size),
                importance=importance,
            )
        )
    return views


def _attended_cells(
    trace: LayerTrace, queries: np.ndarray
) -> int | np.ndarray:
    """Returns how many cells a layer, or each query, can attend to."""
    if trace.window_index is None:
        return trace.shape[0] * trace.shape[1]
    assert trace.window_size is not None
    side = trace.window_size
    index = trace.window_index[0].cpu().numpy()
    if index.ndim == 2:
        index = index[queries]
    corners = np.divmod(index, trace.window_grid[1])
    rows, columns = (
        np.clip(length - corner * side, 0, side)
        for corner, length in zip(corners, trace.shape, strict=True)
    )
    return (rows * columns).sum(-1)


def window_boxes(trace: LayerTrace, size: tuple[int, int]) -> list[WindowBox]:
    """Returns the windows that all queries share, most important first.

    Windows in the padding are left out; the ranks of the others do not
    change. ``size`` is (H, W).
    """
    index = trace.window_index
    if index is None or index.dim() == 3:  # the whole map, or one per query
        return []
    assert trace.window_size is not None
    side = trace.window_size * MASK_STRIDE
    boxes = []
    for rank, window in enumerate(index[0].tolist(), start=1):
        row, column = divmod(window, trace.window_grid[1])
        top, left = row * side, column * side
        if top < size[0] and left < size[1]:
            right, bottom = min(left + side, size[1]), min(top + side, size[0])
            boxes.append(WindowBox(rank, left, top, right, bottom))
    return boxes


def _maps(values: Tensor, trace: LayerTrace) -> np.ndarray:
    return values.float().unflatten(1, trace.shape).cpu().numpy()
