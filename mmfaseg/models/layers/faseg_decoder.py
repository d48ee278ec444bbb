"""The loop over blocks: the one place where the order of things is told.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    K: number of classes.
    H_l, W_l: the map of level l = 0, 1, 2, 3 with stride 32, 16, 8, 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfaseg.registry import MODELS

from .checkpointing import run_layer
from .dfpq import DynamicFocusAwareQuery
from .dfpq_decoder_layer import (
    DFPQDecoderLayer,
    MaskedCrossAttention,
    TokenMemory,
)
from .hrca import HighResolutionCrossAttention, WindowMemory
from .mask_predictor import MaskPredictions, MaskPredictor, multiply_masks

NUM_LEVELS = 4
HIGH_RESOLUTION = 3  # the level that is read by windows


@dataclass
class BlockTrace:
    """Where one block looked.

    Attributes:
        block (int): number of the block, from 0.
        level (int): its level; strides 32, 16, 8, 4.
        shape (tuple[int, int]): (H_l, W_l).
        query_pos (Tensor): positional query of its cross-attention, shape
            (B, Q, C).
        attention (Tensor | None): head-averaged cross-attention, shape
            (B, Q, H_l * W_l); None in a high-resolution block.
        window_index (Tensor | None): chosen windows, most important first,
            int64, shape (B, number of windows), row-major in
            ``window_grid``; only in a high-resolution block.
        window_grid (tuple[int, int] | None): (H_0, W_0).
        window_size (int | None): pixels of the stride-4 map per side.
    """

    block: int
    level: int
    shape: tuple[int, int]
    query_pos: Tensor
    attention: Tensor | None = None
    window_index: Tensor | None = None
    window_grid: tuple[int, int] | None = None
    window_size: int | None = None


@dataclass
class DecoderOutput:
    """Predictions, from the first to the last.

    Attributes:
        cls_scores (list[Tensor]): class logits, each (B, Q, K + 1), the last
            class is "no object".
        mask_preds (MaskPredictions): mask logits, each (B, Q, H_3, W_3),
            formed when they are read.
        traces (list[BlockTrace]): one per block if asked for, else empty.
    """

    cls_scores: list[Tensor]
    mask_preds: MaskPredictions
    traces: list[BlockTrace] = field(default_factory=list)


@MODELS.register_module()
class FASegDecoder(nn.Module):
    """Transformer decoder of FASeg (section 3 of the paper).

    Block i works on level i mod 4. A prediction is made from the initial
    queries and after every block; the mask of each prediction tells the next
    block which pixels to leave out.

    Args:
        embed_dims (int): C.
        num_classes (int): K.
        num_queries (int): Q.
        mask_channels (int, optional): channels of the mask features, C if
            None.
        num_blocks (int): number of blocks, at least 4.
        num_heads (int): heads of every attention; must divide C.
        feedforward_channels (int): hidden channels of the FFN.
        omega (int): one of ``omega`` windows is read at stride 4.
        window_size (int): pixels of the stride-4 map per window side.
        mask_threshold (float): a pixel whose mask probability is below it is
            blocked.
        initial_pool (str): see :class:`DynamicFocusAwareQuery`.
        with_cp (bool): in training, keep only what goes into a block and run
            it again in the backward pass: less memory, more time.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        embed_dims: int,
        num_classes: int,
        num_queries: int = 100,
        mask_channels: int | None = None,
        num_blocks: int = 13,
        num_heads: int = 8,
        feedforward_channels: int = 2048,
        omega: int = 32,
        window_size: int = 8,
        mask_threshold: float = 0.15,
        initial_pool: str = 'background',
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if num_blocks < NUM_LEVELS:
            raise ValueError(
                f'num_blocks={num_blocks} must be at least {NUM_LEVELS}: with '
                'fewer, a level is read by no block and never learns'
            )
        if not 0 <= mask_threshold < 1:
            raise ValueError(
                f'mask_threshold must lie in [0, 1), got {mask_threshold}'
            )
        self.mask_threshold = mask_threshold
        self.window_size = window_size
        self.with_cp = with_cp
        self.query_feat = nn.Embedding(num_queries, embed_dims)
        self.query_embed = nn.Embedding(num_queries, embed_dims)
        self.level_embed = nn.Embedding(NUM_LEVELS, embed_dims)
        self.positional_query = DynamicFocusAwareQuery(
            embed_dims, initial_pool
        )
        self.layers = nn.ModuleList()
        for block in range(num_blocks):
            cross_attn = (
                HighResolutionCrossAttention(
                    embed_dims, num_heads, omega, window_size
                )
                if block % NUM_LEVELS == HIGH_RESOLUTION
                else MaskedCrossAttention(embed_dims, num_heads)
            )
            self.layers.append(
                DFPQDecoderLayer(
                    cross_attn, embed_dims, num_heads, feedforward_channels
                )
            )
        self.predictor = MaskPredictor(
            embed_dims, num_classes, mask_channels or embed_dims
        )

    def forward(
        self,
        memories: Sequence[Tensor],
        positions: Sequence[Tensor],
        mask_features: Tensor,
        trace: bool = False,
    ) -> DecoderOutput:
        """Returns the predictions of all blocks.

        Args:
            memories (Sequence[Tensor]): maps of levels 0 to 3, shapes
                (B, C, H_l, W_l).
            positions (Sequence[Tensor]): K_p of levels 0 to 3, same shapes.
            mask_features (Tensor): shape (B, mask_channels, H_3, W_3).
            trace (bool): also record where every block looked.

        Returns:
            DecoderOutput: in evaluation mode only the last prediction, unless
            traced; in training mode all of them.
        """
        levels = self._add_level_embeddings(memories, positions)
        shapes = [(x.size(2), x.size(3)) for x in memories]
        reduced = self._reduce_mask_features(mask_features, shapes)
        batch = mask_features.size(0)
        query = self.query_feat.weight.expand(batch, -1, -1)
        static = self.query_embed.weight.expand(batch, -1, -1)
        embed = self.predictor.embed(query)
        query_pos = self.positional_query.initial(
            static, positions[0], self._mask_probability(embed, reduced[0])
        )
        keep_all = self.training or trace
        queries, embeds, traces = [query], [embed], []
        importance = embed.new_zeros(batch, *shapes[0])  # block 0 sets it
        last = len(self.layers) - 1
        for block, layer in enumerate(self.layers):
            level = block % NUM_LEVELS
            if level == HIGH_RESOLUTION:
                cross_pos, guide = static, importance
            else:
                cross_pos = query_pos
                guide = self._blocked_pixels(embed, reduced[level])
            query, focus = run_layer(
                layer,
                query,
                cross_pos,
                query_pos,
                levels[level],
                guide,
                trace or block < last,
                with_cp=self.with_cp,
            )
            read_next = (block + 1) % NUM_LEVELS != HIGH_RESOLUTION
            if keep_all or read_next or block == last:
                embed = self.predictor.embed(query)
            if not keep_all:
                queries, embeds = [], []
            queries.append(query)
            embeds.append(embed)
            if trace:
                traces.append(self._trace(block, shapes, cross_pos, focus))
            if level == 0 and block < last:
                importance = focus.sum(1).unflatten(1, shapes[0])
            if level != HIGH_RESOLUTION and block < last:
                query_pos = self.positional_query.update(
                    static, positions[level], focus
                )
        cls_scores = self.predictor.classify(torch.stack(queries))
        masks = MaskPredictions(torch.stack(embeds), mask_features)
        return DecoderOutput(list(cls_scores.unbind(0)), masks, traces)

    def _add_level_embeddings(
        self, memories: Sequence[Tensor], positions: Sequence[Tensor]
    ) -> list[TokenMemory | WindowMemory]:
        levels: list[TokenMemory | WindowMemory] = []
        for level, (memory, position) in enumerate(
            zip(memories, positions, strict=True)
        ):
            embed = self.level_embed.weight[level]
            if level == HIGH_RESOLUTION:
                levels.append(WindowMemory(memory, position, embed))
            else:
                value = memory.flatten(2).transpose(1, 2) + embed
                key = value + position.flatten(2).transpose(1, 2)
                levels.append(TokenMemory(key, value))
        return levels

    @staticmethod
    @torch.no_grad()
    def _reduce_mask_features(
        mask_features: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Resizes the mask features to every level but the finest.

        A mask is a weighted sum of the features, and so is its resized copy
        of theirs: blocks read masks of their own size, and none of stride 4
        is formed for them.
        """
        return [
            F.interpolate(
                mask_features, shape, mode='bilinear', align_corners=False
            )
            for shape in shapes[:HIGH_RESOLUTION]
        ]

    @staticmethod
    @torch.no_grad()
    def _mask_probability(embed: Tensor, features: Tensor) -> Tensor:
        """Returns masks of one level, cut off the graph; (B, Q, H_l, W_l)."""
        return multiply_masks(embed, features).sigmoid_()

    def _blocked_pixels(self, embed: Tensor, features: Tensor) -> Tensor:
        """Returns what each query must not look at; (B, Q, H_l * W_l).

        A query that would see nothing sees everything.
        """
        probability = self._mask_probability(embed, features).flatten(2)
        blocked = probability < self.mask_threshold
        return blocked & ~blocked.all(-1, keepdim=True)

    def _trace(
        self,
        block: int,
        shapes: list[tuple[int, int]],
        query_pos: Tensor,
        focus: Tensor,
    ) -> BlockTrace:
        level = block % NUM_LEVELS
        if level == HIGH_RESOLUTION:
            return BlockTrace(
                block,
                level,
                shapes[level],
                query_pos,
                window_index=focus,
                window_grid=shapes[0],
                window_size=self.window_size,
            )
        return BlockTrace(block, level, shapes[level], query_pos, focus)
