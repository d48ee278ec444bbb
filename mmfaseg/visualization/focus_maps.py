"""What the decoder's trace says, brought to the pixels of the image.

Shapes:
    B: batch. Q: queries. K: number of classes without "no object".
    H, W: height and width of the image as the network saw it, unpadded.
    H_l, W_l: size of level l, whose stride is 32, 16, 8, 4 for l = 0..3.
        A map may reach beyond the image on the right and at the bottom,
        where the network padded; that part is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .decoder_trace import DecoderTrace, LayerTrace

STRIDES = (32, 16, 8, 4)


@dataclass(frozen=True)
class ChosenQuery:
    """A query worth looking at.

    Attributes:
        index (int): Its number in 0..Q-1.
        label (int): Its class in 0..K-1.
        score (float): Class probability times the mean mask probability
            inside its mask, in 0..1.
        mask (np.ndarray): bool, shape (H, W).
    """

    index: int
    label: int
    score: float
    mask: np.ndarray


def upsample(values: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Brings maps of one stride to the pixels of the image.

    Args:
        values (Tensor): Shape (N, H_l, W_l).
        stride (int): Pixels of the image per cell, along each side.
        size (tuple[int, int]): H and W.

    Returns:
        Tensor: float32, shape (N, H, W); cell (r, c) covers the pixels from
        (r * stride, c * stride) on.

    Raises:
        ValueError: If the maps do not cover the image.
    """
    height, width = (length * stride for length in values.shape[-2:])
    if height < size[0] or width < size[1]:
        raise ValueError(
            f'a stride-{stride} map of {tuple(values.shape[-2:])} covers '
            f'{height}x{width} pixels, less than the image of '
            f'{size[0]}x{size[1]}; give the image as the network saw it'
        )
    full = F.interpolate(
        values.detach().float().cpu()[None],
        size=(height, width),
        mode='bilinear',
        align_corners=False,
    )[0]
    return full[:, : size[0], : size[1]]


def mask_probabilities(
    output: DecoderTrace, size: tuple[int, int], sample: int = 0
) -> tuple[Tensor, Tensor]:
    """Returns class and mask probabilities of the final prediction.

    Args:
        output (DecoderTrace): Result of :func:`trace_head`.
        size (tuple[int, int]): H and W.
        sample (int): Which image of the batch.

    Returns:
        tuple[Tensor, Tensor]: Class probabilities, float32, shape (Q, K+1),
        and mask probabilities, float32, shape (Q, H, W).

    Raises:
        ValueError: If scores and masks do not belong together.
    """
    scores, masks = output.cls_scores[-1], output.mask_preds[-1]
    if (
        scores.ndim != 3
        or masks.ndim != 4
        or scores.shape[:2] != masks.shape[:2]
    ):
        raise ValueError(
            'class scores (B, Q, K+1) and masks (B, Q, H, W) do not belong '
            f'together: {tuple(scores.shape)} and {tuple(masks.shape)}'
        )
    if not 0 <= sample < scores.shape[0]:
        raise ValueError(
            f'sample {sample} is not in a batch of {scores.shape[0]}'
        )
    logits = upsample(masks[sample], STRIDES[3], size)
    classes = scores[sample].detach().float().cpu().softmax(-1)
    return classes, logits.sigmoid()


def label_pixels(
    classes: Tensor, masks: Tensor, min_score: float = 0.0
) -> np.ndarray:
    """Returns the semantic prediction.

    Args:
        classes (Tensor): Shape (Q, K+1).
        masks (Tensor): Shape (Q, H, W).
        min_score (float): A pixel whose best class scores less has none.

    Returns:
        np.ndarray: int64, shape (H, W), in 0..K-1, or -1 for none.
    """
    scores = torch.einsum('qk,qhw->khw', classes[:, :-1], masks)
    best, labels = scores.max(0)
    return torch.where(best < min_score, -1, labels).numpy()


def choose_queries(
    classes: Tensor, masks: Tensor, count: int
) -> list[ChosenQuery]:
    """Picks the most confident queries of distinct classes.

    A query whose most likely class is "no object", or whose mask reaches 0.5
    nowhere in the image, is never chosen.

    Args:
        classes (Tensor): Class probabilities, shape (Q, K+1).
        masks (Tensor): Mask probabilities, shape (Q, H, W).
        count (int): How many to pick at most.

    Returns:
        list[ChosenQuery]: Best first; shorter than ``count`` when there are
        not as many classes found.

    Raises:
        ValueError: If ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f'count is {count}; ask for at least one query')
    no_object = classes.shape[1] - 1
    probability, label = classes.max(-1)
    inside = masks > 0.5
    area = inside.sum((1, 2))
    quality = (masks * inside).sum((1, 2)) / area.clamp(min=1)
    score = probability * quality
    score[(label == no_object) | (area == 0)] = -1

    chosen: list[ChosenQuery] = []
    for q in score.argsort(descending=True, stable=True).tolist():
        found = {query.label for query in chosen}
        if score[q] < 0 or len(chosen) == count:
            break
        if label[q].item() not in found:
            chosen.append(
                ChosenQuery(
                    index=q,
                    label=int(label[q]),
                    score=float(score[q]),
                    mask=inside[q].numpy(),
                )
            )
    return chosen


def last_attention(traces: list[LayerTrace], level: int) -> LayerTrace:
    """Returns the trace of the last layer of a level that has attention.

    Raises:
        ValueError: If there is none, or if its attention has a wrong shape.
    """
    found = [trace for trace in traces if trace.level == level]
    if not found:
        raise ValueError(
            f'no traced layer has attention at stride {STRIDES[level]}; '
            'use the result of trace_head'
        )
    trace = max(found, key=lambda t: t.layer)
    if trace.attention.shape[-1] != trace.shape[0] * trace.shape[1]:
        raise ValueError(
            f'layer {trace.layer}: attention over {trace.attention.shape[-1]} '
            f'pixels on a map of {trace.shape}'
        )
    return trace


def attention_maps(
    trace: LayerTrace, size: tuple[int, int], sample: int = 0
) -> np.ndarray:
    """Returns one heat map per query.

    Args:
        trace (LayerTrace): Of a layer.
        size (tuple[int, int]): H and W.
        sample (int): Which image of the batch.

    Returns:
        np.ndarray: float32, shape (Q, H, W), each scaled to a maximum of 1.
    """
    maps = trace.attention[sample].reshape(-1, *trace.shape)
    maps = upsample(maps, STRIDES[trace.level], size)
    return (maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-12)).numpy()


def importance_map(
    importance: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Returns the importance of the stride-32 pixels as a heat map.

    Args:
        importance (np.ndarray): Shape (H_0, W_0).
        size (tuple[int, int]): H and W.

    Returns:
        np.ndarray: float32, shape (H, W), scaled to a maximum of 1.
    """
    heat = upsample(torch.from_numpy(importance)[None], STRIDES[0], size)[0]
    return (heat / heat.max().clamp(min=1e-12)).numpy()
