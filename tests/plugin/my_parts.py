"""Parts that are not in mmfaseg: one of each kind, registered from outside."""

import torch
from mmengine.registry import MODELS
from torch import nn

from mmfaseg.models import MaskClassificationLoss
from mmfaseg.models.layers import (
    CrossAttention,
    DFPQDecoderLayer,
    FASegDecoder,
    MaskPredictor,
    PositionalEncoding,
    PositionalQuery,
    scatter_windows,
    sum_windows,
)
from mmfaseg.models.task_modules import MaskMatcher
from mmfaseg.ops import hrca_gather


@MODELS.register_module()
class GatedQuery(PositionalQuery):
    """Mixes the learned positional query with the attended positions."""

    needs_attention = True

    def __init__(self, embed_dims, gate=0.3):
        super().__init__(embed_dims)
        self.gate = nn.Parameter(torch.tensor(gate))

    def update(self, state, level, attention):
        focus = attention @ level.position.flatten(2).transpose(1, 2)
        return state.query_embed + self.gate * focus


@MODELS.register_module()
class UncertainWindowAttention(CrossAttention):
    """Reads the windows in which the current masks are most uncertain."""

    needs_tokens = False

    def __init__(self, embed_dims, num_heads, count=2, window_size=8):
        super().__init__(embed_dims, num_heads)
        self.count = count
        self.window_size = window_size

    def select_windows(self, state, level):
        masks = level.mask_probability(state.mask_embed)
        uncertainty = (masks * (1 - masks)).sum(1)
        scores = sum_windows(uncertainty, level.window_grid, self.window_size)
        return scores.flatten(1).topk(self.count).indices

    def forward(self, query, state, level, need_attention=False):
        windows = self.select_windows(state, level)
        value, key, outside = hrca_gather(
            level.memory,
            level.position,
            windows,
            self.window_size,
            level.window_grid,
            level.level_embed,
        )
        blocked = None if outside is None else outside[:, None]
        query = query + self.select_query_pos(state)
        output, attention = self.attn(
            query, key, value, blocked, need_attention
        )
        if attention is not None:
            attention = scatter_windows(
                attention, windows, self.window_size, level
            )
        return output, attention


@MODELS.register_module()
class ScaledDecoderLayer(DFPQDecoderLayer):
    """A decoder layer whose change of the queries is scaled per channel."""

    def __init__(self, embed_dims, cross_attn, init_scale=0.5, **options):
        super().__init__(embed_dims, cross_attn, **options)
        self.scale = nn.Parameter(torch.full((embed_dims,), init_scale))

    def forward(self, query, state, level, need_attention=False):
        updated, attention = super().forward(
            query, state, level, need_attention
        )
        return query + self.scale * (updated - query), attention


@MODELS.register_module()
class CoordinateEncoding(PositionalEncoding):
    """A linear function of the normalized coordinates of each pixel."""

    def __init__(self, embed_dims):
        super().__init__()
        self.proj = nn.Linear(2, embed_dims)

    def forward(self, feature):
        batch, _, height, width = feature.shape
        # arange, not linspace: its length may be a symbol in an export
        rows = torch.arange(height, device=feature.device) / height
        columns = torch.arange(width, device=feature.device) / width
        grid = torch.stack(torch.meshgrid(rows, columns, indexing='ij'), -1)
        encoding = self.proj(grid.to(feature.dtype)).permute(2, 0, 1)
        return encoding.expand(batch, -1, -1, -1)


class UnitMaskPredictor(MaskPredictor):
    """Predicts mask embeddings of length 4."""

    def embed(self, query):
        return 4 * nn.functional.normalize(super().embed(query), dim=-1)


@MODELS.register_module()
class UnitMaskDecoder(FASegDecoder):
    """FASeg's decoder with another mask predictor."""

    def __init__(self, embed_dims, num_classes, num_queries, **options):
        super().__init__(embed_dims, num_classes, num_queries, **options)
        self.predictor = UnitMaskPredictor(
            embed_dims, num_classes, self.mask_channels
        )


class MaskOnlyMatcher(MaskMatcher):
    """Matches queries and targets by their masks, without classes."""

    def cost(self, cls_scores, embeds, features, targets):
        cls_scores = torch.zeros_like(cls_scores)
        return super().cost(cls_scores, embeds, features, targets)


@MODELS.register_module()
class MaskOnlyMatchingLoss(MaskClassificationLoss):
    """FASeg's loss with another matcher."""

    def __init__(self, num_classes, **options):
        super().__init__(num_classes, **options)
        self.matcher = MaskOnlyMatcher(**vars(self.matcher))
