"""Configs of decoder parts, and inputs of decoder layers."""

from typing import Any

import torch
from torch import Tensor

from mmfaseg.models.layers import DecoderState, FeatureLevel

DECODER = dict(
    layer=dict(type='mmfaseg.DFPQDecoderLayer'),
    positional_query=dict(type='mmfaseg.DynamicFocusAwareQuery'),
    masked_attention=dict(type='mmfaseg.MaskedCrossAttention'),
    high_res_attention=dict(type='mmfaseg.HighResolutionCrossAttention'),
)
CONDITIONAL = dict(type='mmfaseg.ConditionalPositionalEncoding')
SINE = dict(type='mmfaseg.SinePositionalEncoding')
LEARNED = dict(type='mmfaseg.LearnedPositionalEncoding')


def merge(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns a config with changes, as in config inheritance.

    A dict with ``type`` replaces the default; other dicts are merged into it.
    """
    merged = dict(config)
    for key, value in changes.items():
        if isinstance(value, dict) and 'type' not in value:
            value = {**merged[key], **value}
        merged[key] = value
    return merged


def make_state(
    query_embed: Tensor,
    mask_embed: Tensor | None = None,
    coarse_attention: Tensor | None = None,
) -> DecoderState:
    """Returns a state whose positional query is twice the learned one."""
    if mask_embed is None:
        mask_embed = torch.zeros_like(query_embed)
    return DecoderState(
        query_embed, 2 * query_embed, mask_embed, coarse_attention
    )


def make_level(
    memory: Tensor,
    position: Tensor,
    index: int = 0,
    level_embed: Tensor | None = None,
    masks: Tensor | None = None,
    window_grid: tuple[int, int] = (1, 1),
) -> FeatureLevel:
    """Returns a level with tokens.

    With ``masks``, shape (B, Q, H, W), identity matrices as mask embeddings
    predict these masks.
    """
    if level_embed is None:
        level_embed = memory.new_zeros(memory.size(1))
    value = memory.flatten(2).transpose(1, 2) + level_embed
    return FeatureLevel(
        index,
        memory,
        position,
        level_embed,
        memory if masks is None else masks.logit(),
        window_grid,
        value + position.flatten(2).transpose(1, 2),
        value,
    )
