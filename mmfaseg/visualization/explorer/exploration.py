"""From the trace of a decoder to the views of its layers.

Shapes:
    N: queries that own pixels, most pixels first.
    H, W: height and width of the image as the network saw it, unpadded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..focus_maps import STRIDES
from ..sheet import check_classes
from ..tracing import TracedImage, trace_item
from ..windows import WindowBox, window_boxes
from .measures import centres, changes, entropy, overlap, turns
from .owners import find_owners
from .preference import positional_preference
from .views import Exploration, LayerView

if TYPE_CHECKING:
    from mmengine.model import BaseModel

    from ..decoder_trace import DecoderTrace, LayerTrace

MAX_QUERIES = 24


def explore(
    model: BaseModel,
    item: dict,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    max_queries: int = MAX_QUERIES,
) -> Exploration:
    """Looks at every layer of a network in one image.

    Args:
        model (BaseModel): segmentor or detector in evaluation mode, whose
            head is one of mmfaseg.
        item (dict): what the test pipeline gives for the image.
        classes (Sequence[str]): K class names.
        palette (Sequence[Sequence[int]]): K colours, RGB in 0..255.
        max_queries (int): N at most, up to 254.

    Raises:
        ValueError: if the head has no FASegDecoder, arguments do not match,
            or the predictions are not finite.
    """
    return view_trace(trace_item(model, item), classes, palette, max_queries)


@torch.no_grad()
def view_trace(
    traced: TracedImage,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    max_queries: int = MAX_QUERIES,
) -> Exploration:
    """Returns the same of a image that was looked at already."""
    if not 1 <= max_queries <= 254:
        raise ValueError(f'max_queries must be in 1..254, got {max_queries}')
    colours = check_classes(classes, palette)
    output = traced.output
    scores = output.cls_scores[-1][0].float().softmax(-1)
    logits = output.mask_preds[-1][0]
    if scores.shape[1] != len(classes) + 1:
        raise ValueError(
            f'the network scores {scores.shape[1] - 1} classes, but '
            f'{len(classes)} names were given'
        )
    if not (scores.isfinite().all() and logits.isfinite().all()):
        raise ValueError(
            'the predictions are not finite: the network has diverged; take '
            'an earlier checkpoint'
        )
    size = traced.image.shape[0], traced.image.shape[1]
    labels, owners = find_owners(
        scores[:, :-1], logits, size, traced.min_score
    )
    area = np.bincount(owners[owners >= 0], minlength=len(scores))
    queries = np.argsort(-area, kind='stable')[:max_queries]
    queries = queries[area[queries] > 0]
    place = np.full(len(scores) + 1, -1)
    place[queries] = np.arange(len(queries))
    return Exploration(
        image=traced.image,
        classes=list(classes),
        palette=colours,
        labels=labels,
        owners=place[owners],
        queries=queries,
        masks=_masks(output, 0, queries),
        scores=_scores(output, 0, queries),
        layers=_view_layers(traced, queries, size),
    )


def _view_layers(
    traced: TracedImage, queries: np.ndarray, size: tuple[int, int]
) -> list[LayerView]:
    output = traced.output
    views: list[LayerView] = []
    before = _masks(output, 0, queries)
    dynamic: np.ndarray | None = None  # latest positional query of whole maps
    for trace in output.traces:
        stride = STRIDES[trace.level]
        query_pos = trace.query_pos[0, queries]
        attention = _maps(trace.attention[0, queries], trace)
        unknown = np.full(len(queries), np.nan)
        preference, agreement = np.zeros_like(attention), unknown
        if trace.cross_attn.attn is not None:
            preference = _maps(
                positional_preference(
                    trace.cross_attn.attn,
                    query_pos,
                    trace.position[0].flatten(1),
                ),
                trace,
            )
            agreement = overlap(attention, preference)
        turn, vectors = unknown, query_pos.float().cpu().numpy()
        if stride > STRIDES[-1]:
            turn = unknown if dynamic is None else turns(vectors, dynamic)
            dynamic = vectors
        middle = centres(attention, stride, size)
        drift = unknown
        if views:
            shift = np.linalg.norm(middle - views[-1].centres, axis=1)
            drift = shift / np.hypot(*size)
        masks = _masks(output, trace.layer + 1, queries)
        views.append(
            LayerView(
                layer=trace.layer,
                stride=stride,
                attention=attention,
                preference=preference,
                masks=masks,
                scores=_scores(output, trace.layer + 1, queries),
                entropy=entropy(attention, _readable(trace, queries)),
                overlap=agreement,
                centres=middle,
                drift=drift,
                turn=turn,
                change=changes(masks, before),
                windows=_windows(trace, size),
            )
        )
        before = masks
    return views


def _readable(trace: LayerTrace, queries: np.ndarray) -> int | np.ndarray:
    """Returns how many cells a layer could read, of each query's windows."""
    if trace.window_index is None:
        return trace.shape[0] * trace.shape[1]
    assert trace.window_grid is not None and trace.window_size is not None
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


def _windows(trace: LayerTrace, size: tuple[int, int]) -> list[WindowBox]:
    if trace.window_index is None or trace.window_index.dim() == 3:
        return []
    return window_boxes(trace, size)


def _maps(values: Tensor, trace: LayerTrace) -> np.ndarray:
    return values.float().unflatten(1, trace.shape).cpu().numpy()


def _masks(
    output: DecoderTrace, number: int, queries: np.ndarray
) -> np.ndarray:
    logits = output.mask_preds[number][0, queries]
    return logits.float().sigmoid().cpu().numpy()


def _scores(
    output: DecoderTrace, number: int, queries: np.ndarray
) -> np.ndarray:
    logits = output.cls_scores[number][0, queries]
    return logits.float().softmax(-1).cpu().numpy()
