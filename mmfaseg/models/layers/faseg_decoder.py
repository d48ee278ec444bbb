"""Transformer decoder of FASeg.

Shapes: B batch size, Q queries, C embed_dims, K classes, H_l x W_l the map of
level l = 0, 1, 2, 3 with stride 32, 16, 8, 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleDict
from torch import Tensor, nn

from mmfaseg.registry import MODELS
from mmfaseg.utils.check_count import check_count
from mmfaseg.utils.mask2former_arguments import TRANSFORMER_DECODER
from mmfaseg.utils.misplaced_arguments import reject_misplaced

from .build_part import build_part, check_part
from .cross_attention import CrossAttention, check_attention
from .dfpq import PositionalQuery, check_query_pos
from .feature_level import (
    HIGH_RESOLUTION,
    DecoderState,
    FeatureLevel,
    make_levels,
)
from .low_memory import run_layer
from .mask_predictor import DecoderOutput, MaskPredictions, MaskPredictor


@dataclass(frozen=True)
class LayerStep:
    """One step of the decoder.

    Attributes:
        layer (str): key of the layer; steps with the same key share it.
        level (int): the level that the layer attends to.
        need_attention (bool): whether the layer must return its attention.
        updates_query_pos (bool): whether the positional query is updated
            after the layer.
        updates_coarse_attention (bool): whether the attention is kept for
            the high-resolution attention.
    """

    layer: str
    level: int
    need_attention: bool
    updates_query_pos: bool
    updates_coarse_attention: bool


@MODELS.register_module()
class FASegDecoder(BaseModule):
    """Transformer decoder of FASeg (section 3 of the paper).

    Layer i attends to level i mod 4, with ``masked_attention`` at strides 32,
    16 and 8 and with ``high_res_attention`` at stride 4. Predictions are made
    from the initial queries and after every layer; the masked attention of
    the next layer uses the predicted masks.

    With ``positional_query=dict(type='mmfaseg.LearnedPositionalQuery')``,
    ``high_res_attention=None``, ``num_layers=9`` and
    ``masked_attention.mask_threshold=0.5`` this is Mask2Former's decoder.

    Args:
        embed_dims (int): number of channels, C.
        num_classes (int): number of classes, K.
        num_queries (int): number of queries, Q.
        layer (dict): config of a decoder layer such as
            :class:`DFPQDecoderLayer`, to which the decoder adds
            ``embed_dims`` and ``cross_attn``. Its class keeps the
            cross-attention as ``self.cross_attn``, and its
            ``forward(query, state, level, need_attention)`` returns queries,
            (B, Q, C), and the attention, (B, Q, H_l * W_l), or None.
        positional_query (dict): config of a :class:`PositionalQuery`, to
            which the decoder adds ``embed_dims``.
        masked_attention (dict): config of the :class:`CrossAttention` at
            strides 32, 16 and 8, such as :class:`MaskedCrossAttention`, to
            which the layer adds ``embed_dims`` and ``num_heads``.
        high_res_attention (dict | None): config of the
            :class:`CrossAttention` at stride 4, to which the layer adds
            ``embed_dims`` and ``num_heads``. If None, stride 4 is not used
            and layer i attends to level i mod 3.
        num_layers (int): number of layers, at least one per level.
        mask_channels (int, optional): channels of the mask features, C by
            default.
        share_high_res_layers (bool): share the parameters of all layers at
            stride 4.
        with_cp (bool): use gradient checkpointing.

    Raises:
        KeyError: if no class of a configured name is registered.
        TypeError: if a part does not have the required base class, or a
            layer has no ``cross_attn``.
        ValueError: if an argument is out of range.
    """

    @reject_misplaced(TRANSFORMER_DECODER)
    def __init__(
        self,
        embed_dims: int,
        num_classes: int,
        num_queries: int,
        layer: dict[str, Any],
        positional_query: dict[str, Any],
        masked_attention: dict[str, Any],
        high_res_attention: dict[str, Any] | None,
        num_layers: int = 13,
        mask_channels: int | None = None,
        share_high_res_layers: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.num_levels = 3 if high_res_attention is None else 4
        check_count('num_layers', num_layers)
        if num_layers < self.num_levels:
            raise ValueError(
                f'num_layers={num_layers} must be at least {self.num_levels}, '
                'one per level: a level without a layer would not be trained'
            )
        if share_high_res_layers and high_res_attention is None:
            raise ValueError(
                'share_high_res_layers=True, but high_res_attention=None: '
                'there are no layers to share; remove one of them'
            )
        self.with_cp = with_cp
        self.query_feat = nn.Embedding(num_queries, embed_dims)
        self.query_embed: nn.Embedding | None = nn.Embedding(
            num_queries, embed_dims
        )
        self.level_embed = nn.Embedding(self.num_levels, embed_dims)
        self.positional_query = build_part(
            'positional_query',
            positional_query,
            PositionalQuery,
            embed_dims=embed_dims,
        )
        if not self.positional_query.uses_query_embed:
            self.query_embed = None
        keys = self._build_layers(
            layer,
            masked_attention,
            high_res_attention,
            num_layers,
            share_high_res_layers,
        )
        self.schedule = self._make_schedule(keys)
        self.token_levels = {
            step.level
            for step in self.schedule
            if self._cross_attn(step.layer).needs_tokens
        }
        if mask_channels is None:
            mask_channels = embed_dims
        check_count('mask_channels', mask_channels)
        self.mask_channels = mask_channels
        self.predictor = MaskPredictor(
            embed_dims, num_classes, self.mask_channels
        )

    def _build_layers(
        self,
        layer: dict[str, Any],
        masked_attention: dict[str, Any],
        high_res_attention: dict[str, Any] | None,
        num_layers: int,
        share_high_res_layers: bool,
    ) -> list[str]:
        """Builds the layers and returns the layer key of each step."""
        check_part('masked_attention', masked_attention, CrossAttention)
        if high_res_attention is not None:
            check_part(
                'high_res_attention', high_res_attention, CrossAttention
            )
        attentions = 3 * [masked_attention] + [high_res_attention]
        self.layers = ModuleDict()  # keys: index of their first step
        keys = []
        for index in range(num_layers):
            level = index % self.num_levels
            is_shared = share_high_res_layers and level == HIGH_RESOLUTION
            keys.append(str(level if is_shared else index))
            if keys[-1] not in self.layers:
                self.layers[keys[-1]] = build_part(
                    'layer',
                    layer,
                    nn.Module,
                    embed_dims=self.query_feat.embedding_dim,
                    cross_attn=attentions[level],
                )
        return keys

    def _make_schedule(self, keys: Sequence[str]) -> list[LayerStep]:
        """Returns the steps, given the declared requirements of the parts."""
        attentions = [self._cross_attn(key) for key in keys]
        coarse_levels = {x.coarse_level for x in attentions} - {None}
        if len(coarse_levels) > 1 or not coarse_levels <= {0, 1, 2}:
            raise ValueError(
                'coarse_level must be None, 0, 1 or 2, and the same in '
                f'all layers, got {coarse_levels}'
            )
        steps = []
        for index, attention in enumerate(attentions):
            level = index % self.num_levels
            coarse_level = attention.coarse_level
            if coarse_level is not None and index <= coarse_level:
                raise ValueError(
                    f'{type(attention).__name__} in layer {index} uses the '
                    f'attention of level {coarse_level} (coarse_level), but '
                    'no earlier layer attends to that level'
                )
            is_last = index == len(keys) - 1
            updates_query_pos = attention.updates_query_pos and not is_last
            updates_coarse_attention = level in coarse_levels and not is_last
            need_attention = updates_coarse_attention or (
                updates_query_pos and self.positional_query.needs_attention
            )
            steps.append(
                LayerStep(
                    keys[index],
                    level,
                    need_attention,
                    updates_query_pos,
                    updates_coarse_attention,
                )
            )
        kind = type(self.positional_query)
        is_dynamic = kind.update is not PositionalQuery.update
        if is_dynamic and not any(x.updates_query_pos for x in steps):
            raise ValueError(
                f'{kind.__name__} would never be updated: set '
                'updates_query_pos = True in the class of masked_attention, '
                f'{type(attentions[0]).__name__}'
            )
        return steps

    def cross_attentions(self) -> list[CrossAttention]:
        """Returns the unique cross-attention modules of the layers."""
        return [self._cross_attn(key) for key in self.layers]

    def _cross_attn(self, key: str) -> CrossAttention:
        layer = self.layers[key]
        attention = getattr(layer, 'cross_attn', None)
        if not isinstance(attention, CrossAttention):
            raise TypeError(
                f'layer: {type(layer).__name__} must keep its CrossAttention '
                f'as self.cross_attn, found {type(attention).__name__}'
            )
        return attention

    def forward(
        self,
        memories: Sequence[Tensor],
        positions: Sequence[Tensor],
        mask_features: Tensor,
    ) -> DecoderOutput:
        """Returns the predictions of all layers.

        Args:
            memories (Sequence[Tensor]): maps of levels 0 to 3, or 0 to 2
                without ``high_res_attention``, shapes (B, C, H_l, W_l).
            positions (Sequence[Tensor]): positional encoding K_p of each
                level, same shapes.
            mask_features (Tensor): shape (B, mask_channels, H_3, W_3).

        Raises:
            ValueError: if the number of levels or of mask channels differs
                from that of the pixel decoder.
        """
        if mask_features.size(1) != self.mask_channels:
            raise ValueError(
                f'the pixel decoder returns {mask_features.size(1)} mask '
                'channels, but the transformer decoder has '
                f'mask_channels={self.mask_channels}: set the same '
                'mask_channels for both'
            )
        levels = make_levels(
            memories,
            positions,
            mask_features,
            self.level_embed.weight,
            self.token_levels,
        )
        query, state = self._initial_state(levels[0])
        queries, mask_embeds = [query], [state.mask_embed]
        for step in self.schedule:
            level = levels[step.level]
            query, attention = run_layer(
                self.layers[step.layer],
                query,
                state,
                level,
                step.need_attention,
                with_cp=self.with_cp,
            )
            state = self._update_state(state, step, level, query, attention)
            del attention  # free it before the next layer
            queries.append(query)
            mask_embeds.append(state.mask_embed)
        cls_scores = self.predictor.classify(torch.stack(queries))
        masks = MaskPredictions(torch.stack(mask_embeds), mask_features)
        return DecoderOutput(list(cls_scores.unbind(0)), masks)

    def _update_state(
        self,
        state: DecoderState,
        step: LayerStep,
        level: FeatureLevel,
        query: Tensor,
        attention: Tensor | None,
    ) -> DecoderState:
        """Returns the decoder state after a layer."""
        if step.need_attention:
            layer = self.layers[step.layer]
            attention = check_attention(layer, attention, query, level)
        state = state._replace(mask_embed=self.predictor.embed(query))
        if step.updates_query_pos:
            positional_query = self.positional_query
            query_pos = positional_query.update(
                state,
                level,
                attention if positional_query.needs_attention else None,
            )
            query_pos = check_query_pos(positional_query, query_pos, query)
            state = state._replace(query_pos=query_pos)
        if step.updates_coarse_attention:
            assert attention is not None  # checked above
            coarse = attention.detach().unflatten(2, level.shape)
            state = state._replace(coarse_attention=coarse)
        return state

    def _initial_state(
        self, level: FeatureLevel
    ) -> tuple[Tensor, DecoderState]:
        """Returns the initial queries, (B, Q, C), and decoder state."""
        shape = level.memory.size(0), -1, -1
        query = self.query_feat.weight.expand(shape)
        query_embed = torch.zeros_like(query)
        if self.query_embed is not None:
            query_embed = self.query_embed.weight.expand(shape)
        state = DecoderState(
            query_embed, query_embed, self.predictor.embed(query)
        )
        query_pos = self.positional_query.initial(state, level)
        check_query_pos(self.positional_query, query_pos, query)
        return query, state._replace(query_pos=query_pos)
