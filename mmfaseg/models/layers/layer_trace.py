"""Recording where the layers of a decoder attend, by forward hooks.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    H_l, W_l: the map of level l = 0, 1, 2, 3 with stride 32, 16, 8, 4.
    K: number of chosen windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .cross_attention import CrossAttention
from .decoder_output import DecoderOutput
from .faseg_decoder import FASegDecoder
from .feature_level import FeatureLevel
from .hrca import HighResolutionCrossAttention


@dataclass
class LayerTrace:
    """Where one layer attends.

    Attributes:
        layer (int): index of the layer.
        level (int): its level; strides 32, 16, 8, 4.
        shape (tuple[int, int]): (H_l, W_l).
        query_pos (Tensor): positional query of its cross-attention, shape
            (B, Q, C).
        position (Tensor): K_p of its level, shape (B, C, H_l, W_l).
        attention (Tensor): head-averaged cross-attention, shape
            (B, Q, H_l * W_l); zero outside the windows that were read.
        cross_attn (CrossAttention): its cross-attention.
        window_index (Tensor | None): chosen windows, most important first,
            int64, row-major in ``window_grid``, shape (B, K), or (B, Q, K)
            with a choice per query; None if the whole level was read.
        window_grid (tuple[int, int] | None): (H_0, W_0).
        window_size (int | None): pixels of the stride-4 map per side.
        importance (Tensor | None): what the windows were chosen by, shape
            (B, H_0, W_0), or (B, Q, H_0, W_0); None unless the
            cross-attention is a :class:`HighResolutionCrossAttention`.
    """

    layer: int
    level: int
    shape: tuple[int, int]
    query_pos: Tensor
    position: Tensor
    attention: Tensor
    cross_attn: CrossAttention
    window_index: Tensor | None = None
    window_grid: tuple[int, int] | None = None
    window_size: int | None = None
    importance: Tensor | None = None


@dataclass
class DecoderTrace(DecoderOutput):
    """Predictions of the decoder, and where its layers attend.

    Attributes:
        traces (list[LayerTrace]): one per layer.
    """

    traces: list[LayerTrace] = field(default_factory=list)


def trace_decoder(
    decoder: FASegDecoder,
    memories: Sequence[Tensor],
    positions: Sequence[Tensor],
    mask_features: Tensor,
) -> DecoderTrace:
    """Runs a decoder and records every layer.

    Arguments are those of :meth:`FASegDecoder.forward`. All layers compute
    their attention explicitly, which changes results by rounding only.
    """
    traces: list[LayerTrace] = []

    def record(attention: CrossAttention, args: Any, result: Any) -> None:
        _, state, level = args
        traces.append(
            _make_trace(len(traces), attention, state, level, result[1])
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
    return args[:3], {**kwargs, 'need_attention': True}


@torch.no_grad()
def _make_trace(
    index: int,
    attention: CrossAttention,
    state: Any,
    level: FeatureLevel,
    probability: Tensor,
) -> LayerTrace:
    windows = attention.select_windows(state, level)
    trace = LayerTrace(
        index,
        level.index,
        level.shape,
        attention.select_query_pos(state),
        level.position,
        probability,
        attention,
    )
    if windows is not None:
        trace.window_index = windows
        trace.window_grid = level.window_grid
        trace.window_size = attention.window_size
        if isinstance(attention, HighResolutionCrossAttention):
            trace.importance = attention.importance(state, level)
    return trace
