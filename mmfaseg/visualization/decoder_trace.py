"""Tracing of decoder attention with forward hooks.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    H_l, W_l: the map of level l = 0, 1, 2, 3 with stride 32, 16, 8, 4.
    K: number of selected windows.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mmengine.model import BaseModel, BaseModule

    from mmfaseg.models.layers import (
        CrossAttention,
        DecoderState,
        FASegDecoder,
        FeatureLevel,
        MaskPredictions,
    )


@dataclass
class LayerTrace:
    """Inputs and attention of one layer.

    Attributes:
        layer (int): Index of the layer.
        level (int): Index of its level, 0 to 3 for strides 32, 16, 8, 4.
        shape (tuple[int, int]): (H_l, W_l).
        query_pos (Tensor): Positional query of the cross-attention, shape
            (B, Q, C).
        position (Tensor): K_p of the level, shape (B, C, H_l, W_l).
        attention (Tensor): Head-averaged cross-attention, shape
            (B, Q, H_l * W_l); zero outside the selected windows.
        cross_attn (CrossAttention): The module.
        window_index (Tensor | None): Selected windows, most important first,
            int64, row-major in ``window_grid``, shape (B, K), or (B, Q, K)
            if selected per query; None for attention to the whole level.
        window_grid (tuple[int, int]): (H_0, W_0).
        window_size (int | None): Pixels of the stride-4 map per side.
        importance (Tensor | None): Importance by which windows are selected,
            shape (B, H_0, W_0), or (B, Q, H_0, W_0); None if not available.
    """

    layer: int
    level: int
    shape: tuple[int, int]
    query_pos: Tensor
    position: Tensor
    attention: Tensor
    cross_attn: CrossAttention
    window_index: Tensor | None
    window_grid: tuple[int, int]
    window_size: int | None
    importance: Tensor | None


@dataclass
class DecoderTrace:
    """Predictions of a decoder, and the traces of its layers.

    Attributes:
        cls_scores (list[Tensor]): See :class:`DecoderOutput`.
        mask_preds (MaskPredictions): See :class:`DecoderOutput`.
        traces (list[LayerTrace]): One per layer.
    """

    cls_scores: list[Tensor]
    mask_preds: MaskPredictions
    traces: list[LayerTrace]


def find_traceable_head(model: BaseModel) -> BaseModule:
    """Returns the head of a model whose decoder can be traced.

    Raises:
        ValueError: If it has no :class:`FASegDecoder`.
    """
    from mmfaseg.models import FASegDecoder  # other figures do not need it

    head = getattr(model, 'decode_head', model)
    head = getattr(model, 'panoptic_head', head)
    decoder = getattr(head, 'transformer_decoder', None)
    if not isinstance(decoder, FASegDecoder):
        raise ValueError(
            f'{type(head).__name__} has no FASegDecoder to trace: use a '
            "config of mmfaseg; faseg2mmfaseg.py converts Mask2Former's "
            'checkpoints to one with mmfaseg.LearnedPositionalQuery'
        )
    return head


@torch.no_grad()
def trace_head(head: BaseModule, feats: Sequence[Tensor]) -> DecoderTrace:
    """Runs a head and records every layer of its decoder.

    Args:
        head (BaseModule): For example a :class:`FASegHead`.
        feats (Sequence[Tensor]): Backbone stages with stride 4, 8, 16, 32.
    """
    return trace_decoder(head.transformer_decoder, *head.pixel_decoder(feats))


def trace_decoder(
    decoder: FASegDecoder,
    memories: Sequence[Tensor],
    positions: Sequence[Tensor],
    mask_features: Tensor,
) -> DecoderTrace:
    """Runs a decoder and records every layer.

    All layers compute their attention explicitly, which changes the results
    only by rounding. The arguments are those of the decoder's ``forward``.

    Raises:
        ValueError: If gradients and gradient checkpointing are enabled: the
            backward pass would run the layers again without the hooks; or if
            a custom cross-attention does not return its attention.
    """
    from mmfaseg.models.layers.cross_attention import check_attention

    if decoder.with_cp and torch.is_grad_enabled():
        raise ValueError(
            'a decoder with with_cp=True cannot be traced with gradients: '
            'use torch.no_grad()'
        )
    traces: list[LayerTrace] = []

    def record(attention: CrossAttention, args: Any, result: Any) -> None:
        query, state, level = args
        probability = check_attention(attention, result[1], query, level)
        traces.append(
            _make_trace(len(traces), attention, state, level, probability)
        )

    handles = []
    for attention in decoder.cross_attentions():
        handles += [
            attention.register_forward_pre_hook(
                _request_attention, with_kwargs=True
            ),
            attention.register_forward_hook(record),
        ]
    try:
        output = decoder(memories, positions, mask_features)
    finally:
        for handle in handles:
            handle.remove()
    return DecoderTrace(output.cls_scores, output.mask_preds, traces)


def _request_attention(
    attention: CrossAttention, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Adds ``need_attention=True`` to the arguments of a cross-attention."""
    bound = inspect.signature(attention.forward).bind(*args, **kwargs)
    inputs = tuple(bound.arguments[x] for x in ('query', 'state', 'level'))
    return inputs, {'need_attention': True}


@torch.no_grad()
def _make_trace(
    index: int,
    attention: CrossAttention,
    state: DecoderState,
    level: FeatureLevel,
    probability: Tensor,
) -> LayerTrace:
    windows = attention.select_windows(state, level)
    if windows is not None and attention.window_size is None:
        raise ValueError(
            f'{type(attention).__name__} selects windows: it must set '
            'window_size'
        )
    return LayerTrace(
        index,
        level.index,
        level.shape,
        attention.select_query_pos(state),
        level.position,
        probability,
        attention,
        windows,
        level.window_grid,
        attention.window_size,
        None if windows is None else attention.importance(state, level),
    )
