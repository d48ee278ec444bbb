"""Inputs of the decoder layers: feature levels and the decoder state.

Shapes: B batch size, Q queries, C embed_dims, M channels of the mask features,
H_l x W_l the map of level l = 0, 1, 2, 3 with stride 32, 16, 8, 4.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .mask_predictor import multiply_masks

HIGH_RESOLUTION = 3  # the stride-4 level, read by high-resolution attention


@dataclass(frozen=True, eq=False)
class FeatureLevel:
    """One level of the feature pyramid, shared by all decoder layers.

    Attributes:
        index (int): index of the level, l.
        memory (Tensor): output of the pixel decoder, shape (B, C, H_l, W_l).
        position (Tensor): positional encoding K_p, shape (B, C, H_l, W_l).
        level_embed (Tensor): learned embedding of the level, shape (C,).
        mask_features (Tensor): mask features at the size of this level,
            detached, shape (B, M, H_l, W_l).
        window_grid (tuple[int, int]): (H_0, W_0), one window per stride-32
            pixel.
        key (Tensor | None): memory + level_embed + K_p as tokens, shape
            (B, H_l * W_l, C); None if no layer needs all tokens.
        value (Tensor | None): memory + level_embed, same shape.
    """

    index: int
    memory: Tensor
    position: Tensor
    level_embed: Tensor
    mask_features: Tensor
    window_grid: tuple[int, int]
    key: Tensor | None = None
    value: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H_l, W_l)."""
        return self.memory.size(2), self.memory.size(3)

    def mask_probability(self, mask_embed: Tensor) -> Tensor:
        """Returns the probabilities of masks at the size of this level.

        Args:
            mask_embed (Tensor): mask embeddings, shape (B, Q, M).

        Returns:
            Tensor: detached, shape (B, Q, H_l, W_l).
        """
        with torch.no_grad():  # a decorator would break a compiled graph
            logits = multiply_masks(mask_embed, self.mask_features)
            return logits.sigmoid_()


class DecoderState(NamedTuple):
    """State of the decoder before a layer, besides the queries.

    Attributes:
        query_embed (Tensor): learned positional query, shape (B, Q, C).
        query_pos (Tensor): current positional query, shape (B, Q, C).
        mask_embed (Tensor): mask embeddings of the latest prediction, shape
            (B, Q, M).
        coarse_attention (Tensor | None): head-averaged attention of the
            latest layer on the ``coarse_level`` of the high-resolution
            attention, detached, shape (B, Q, H_l, W_l); None before that
            layer, or if it is not needed.
    """

    query_embed: Tensor
    query_pos: Tensor
    mask_embed: Tensor
    coarse_attention: Tensor | None = None


def make_levels(
    memories: Sequence[Tensor],
    positions: Sequence[Tensor],
    mask_features: Tensor,
    level_embeds: Tensor,
    token_levels: Collection[int],
) -> list[FeatureLevel]:
    """Builds the levels of one forward pass.

    Mask features are resized instead of masks: a mask is a linear combination
    of the features, and so is the resized mask.

    Args:
        memories (Sequence[Tensor]): maps of all levels, (B, C, H_l, W_l).
        positions (Sequence[Tensor]): K_p of all levels, same shapes.
        mask_features (Tensor): shape (B, M, H_3, W_3).
        level_embeds (Tensor): one per level, shape (levels, C).
        token_levels (Collection[int]): levels that need keys and values.

    Raises:
        ValueError: if the numbers of levels and embeddings differ.
    """
    if len(memories) != len(level_embeds):
        raise ValueError(
            f'the pixel decoder returns {len(memories)} levels, but the '
            f'transformer decoder reads {len(level_embeds)}: set '
            'pixel_decoder.num_levels to the latter'
        )
    grid = memories[0].size(2), memories[0].size(3)
    mask_features = mask_features.detach()
    levels = []
    for index, (memory, position, embed) in enumerate(
        zip(memories, positions, level_embeds.unbind(), strict=True)
    ):
        key = value = None
        if index in token_levels:
            value = memory.flatten(2).transpose(1, 2) + embed
            key = value + position.flatten(2).transpose(1, 2)
        features = mask_features
        if index != HIGH_RESOLUTION:
            features = F.interpolate(
                mask_features, memory.shape[2:], mode='bilinear'
            )
        levels.append(
            FeatureLevel(
                index, memory, position, embed, features, grid, key, value
            )
        )
    return levels
