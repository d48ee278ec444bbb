"""What every block did in one picture, for the queries that were right there.

Shapes:
    N: queries that own pixels, most pixels first.
    Q: all queries.
    C: embed_dims.
    K: number of classes.
    H, W: height and width of the picture as the network saw it, unpadded.
    H_l, W_l: the map of a block's level; H_3, W_3: that of the masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor

from ..focus_maps import STRIDES, label_pixels, mask_probabilities
from ..picture import network_picture
from ..sheet import check_classes
from ..windows import WindowBox, window_boxes, window_importance
from .measures import centres, changes, entropy, overlap, turns
from .preference import positional_preference

if TYPE_CHECKING:
    from mmengine.model import BaseModel, BaseModule

    from mmfaseg.models.layers import BlockTrace, DecoderOutput

MAX_QUERIES = 24


@dataclass(frozen=True)
class BlockView:
    """What one block did.

    Attributes:
        block (int): its number, from 0.
        stride (int): of the map that it read.
        attention (np.ndarray): where each query looked, averaged over the
            heads, float32, shape (N, H_l, W_l), each sums to 1.
        preference (np.ndarray): where its positional query alone would have
            looked, likewise; see :func:`positional_preference`.
        masks (np.ndarray): mask probabilities after it, shape (N, H_3, W_3).
        scores (np.ndarray): class probabilities after it, "no object" last,
            shape (N, K + 1).
        entropy (np.ndarray): of the attention, 0 (one pixel) to 1 (all
            alike), shape (N,).
        overlap (np.ndarray): what attention and preference have in common, 0
            to 1, shape (N,).
        centres (np.ndarray): mean place of the attention, x and y in pixels
            of the picture, shape (N, 2).
        drift (np.ndarray): how far that is from where the block before
            looked, as a share of the picture's diagonal, shape (N,); NaN in
            the first block.
        turn (np.ndarray): 1 less the cosine of its positional query and the
            one before, shape (N,); NaN in the first block, and where windows
            are read, as they are with the learned part alone.
        change (np.ndarray): 1 less the IoU of the masks after and before it,
            shape (N,).
        windows (list[WindowBox]): that all queries read, best first; empty if
            the block reads a whole map, or each query has its own.
    """

    block: int
    stride: int
    attention: np.ndarray
    preference: np.ndarray
    masks: np.ndarray
    scores: np.ndarray
    entropy: np.ndarray
    overlap: np.ndarray
    centres: np.ndarray
    drift: np.ndarray
    turn: np.ndarray
    change: np.ndarray
    windows: list[WindowBox] = field(default_factory=list)


@dataclass(frozen=True)
class Exploration:
    """How the queries of one picture came to their answers.

    Attributes:
        picture (np.ndarray): uint8, shape (H, W, 3), RGB.
        classes (list[str]): K names.
        palette (np.ndarray): their colours, uint8, shape (K, 3).
        labels (np.ndarray): predicted classes, shape (H, W), -1 for none.
        owners (np.ndarray): which of the N queries adds most to the score of
            the predicted class, shape (H, W), -1 for none of them.
        queries (np.ndarray): numbers of the N queries, 0..Q-1.
        masks (np.ndarray): probabilities before the first block, shape
            (N, H_3, W_3).
        scores (np.ndarray): of classes before it, shape (N, K + 1).
        blocks (list[BlockView]): one per block.
    """

    picture: np.ndarray
    classes: list[str]
    palette: np.ndarray
    labels: np.ndarray
    owners: np.ndarray
    queries: np.ndarray
    masks: np.ndarray
    scores: np.ndarray
    blocks: list[BlockView]


@torch.no_grad()
def explore(
    model: BaseModel,
    item: dict,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    max_queries: int = MAX_QUERIES,
) -> Exploration:
    """Looks at every block of a network in one picture.

    Args:
        model (BaseModel): segmentor or detector in evaluation mode, whose
            head is one of mmfaseg.
        item (dict): what the test pipeline gives for the picture.
        classes (Sequence[str]): K class names.
        palette (Sequence[Sequence[int]]): K colours, RGB in 0..255.
        max_queries (int): N at most.

    Raises:
        ValueError: if the head has no ``trace``, or arguments do not fit.
    """
    if not 1 <= max_queries <= 254:
        raise ValueError(f'max_queries must be in 1..254, got {max_queries}')
    colours = check_classes(classes, palette)
    is_detector = hasattr(model, 'panoptic_head')
    head = model.panoptic_head if is_detector else model.decode_head
    if not hasattr(head, 'trace'):
        raise ValueError(
            f'{type(head).__name__} cannot tell where its queries look: take '
            "a config of mmfaseg; faseg2mmfaseg.py brings Mask2Former's "
            'checkpoints to one with positional_query="parameterized"'
        )
    picture = network_picture(item['inputs'])
    size = picture.shape[0], picture.shape[1]
    batch = model.data_preprocessor(pseudo_collate([item]), False)
    output = head.trace(model.extract_feat(batch['inputs']))
    scores, masks = mask_probabilities(output, size)
    if scores.shape[1] != len(classes) + 1:
        raise ValueError(
            f'the network scores {scores.shape[1] - 1} classes, but '
            f'{len(classes)} names were given'
        )
    labels = label_pixels(scores, masks, 0.5 if is_detector else 0.0)
    owners = find_owners(scores, masks, labels)
    area = np.bincount(owners[owners >= 0], minlength=len(scores))
    queries = np.argsort(-area, kind='stable')[:max_queries]
    queries = queries[area[queries] > 0]
    place = np.full(len(scores) + 1, -1)
    place[queries] = np.arange(len(queries))
    return Exploration(
        picture=picture,
        classes=list(classes),
        palette=colours,
        labels=labels,
        owners=place[owners],
        queries=queries,
        masks=_masks(output, 0, queries),
        scores=_scores(output, 0, queries),
        blocks=_view_blocks(head, output, queries, size),
    )


def find_owners(
    scores: Tensor, masks: Tensor, labels: np.ndarray
) -> np.ndarray:
    """Returns the query that adds most to the score of each pixel's class.

    Args:
        scores (Tensor): class probabilities, shape (Q, K + 1).
        masks (Tensor): mask probabilities, shape (Q, H, W).
        labels (np.ndarray): the predicted classes, shape (H, W), -1 for none.

    Returns:
        np.ndarray: int64, shape (H, W), 0..Q-1, or -1 where there is none.
    """
    owners = torch.full(labels.shape, -1)
    for label in np.unique(labels[labels >= 0]).tolist():
        there = torch.from_numpy(labels == label)
        parts = masks[:, there] * scores[:, label, None]
        owners[there] = parts.argmax(0)
    return owners.numpy()


def _view_blocks(
    head: BaseModule,
    output: DecoderOutput,
    queries: np.ndarray,
    size: tuple[int, int],
) -> list[BlockView]:
    views: list[BlockView] = []
    masks = _masks(output, 0, queries)
    dynamic: np.ndarray | None = None  # latest positional query of whole maps
    for trace in output.traces:
        stride = STRIDES[trace.level]
        query_pos = trace.query_pos[0, queries]
        attention = _maps(trace.attention[0, queries], trace)
        preference = _maps(
            positional_preference(
                head.transformer_decoder.layers[trace.block].cross_attn.attn,
                query_pos,
                trace.position[0].flatten(1),
            ),
            trace,
        )
        unknown = np.full(len(queries), np.nan)
        turn = unknown
        if trace.level < 3:
            vectors = query_pos.float().cpu().numpy()
            turn = unknown if dynamic is None else turns(vectors, dynamic)
            dynamic = vectors
        middle = centres(attention, stride)
        drift = unknown
        if views:
            shift = np.linalg.norm(middle - views[-1].centres, axis=1)
            drift = shift / np.hypot(*size)
        before, masks = masks, _masks(output, trace.block + 1, queries)
        views.append(
            BlockView(
                block=trace.block,
                stride=stride,
                attention=attention,
                preference=preference,
                masks=masks,
                scores=_scores(output, trace.block + 1, queries),
                entropy=entropy(attention),
                overlap=overlap(attention, preference),
                centres=middle,
                drift=drift,
                turn=turn,
                change=changes(masks, before),
                windows=_windows(output, trace, size),
            )
        )
    return views


def _windows(
    output: DecoderOutput, trace: BlockTrace, size: tuple[int, int]
) -> list[WindowBox]:
    if trace.window_index is None or trace.window_index.dim() == 3:
        return []
    _, importance = window_importance(output.traces, trace.block)
    return window_boxes(trace, importance, size)


def _maps(values: Tensor, trace: BlockTrace) -> np.ndarray:
    return values.float().unflatten(1, trace.shape).cpu().numpy()


def _masks(
    output: DecoderOutput, number: int, queries: np.ndarray
) -> np.ndarray:
    logits = output.mask_preds[number][0, queries]
    return logits.float().sigmoid().cpu().numpy()


def _scores(
    output: DecoderOutput, number: int, queries: np.ndarray
) -> np.ndarray:
    logits = output.cls_scores[number][0, queries]
    return logits.float().softmax(-1).cpu().numpy()
