"""The loop over blocks: the one place where the order of things is told.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    K: number of classes.
    H_l, W_l: the map of level l = 0, 1, 2, 3 with stride 32, 16, 8, 4.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfaseg.registry import MODELS

from .checkpointing import run_layer
from .decoder_output import BlockTrace, DecoderOutput
from .dfpq_decoder_layer import (
    DFPQDecoderLayer,
    MaskedCrossAttention,
    SameLayer,
    TokenMemory,
)
from .hrca import (
    HIGH_RESOLUTION_ATTENTIONS,
    WindowFocus,
    WindowMemory,
    window_importance,
)
from .mask_predictor import MaskPredictions, MaskPredictor, multiply_masks
from .rival_queries import make_positional_query

NUM_LEVELS = 4
HIGH_RESOLUTION = 3  # the level that is read by windows
LEVEL_OF_STRIDE = {32: 0, 16: 1, 8: 2}


@MODELS.register_module()
class FASegDecoder(nn.Module):
    """Transformer decoder of FASeg (section 3 of the paper), and its rivals.

    Block i works on level i mod 4. A prediction is made from the initial
    queries and after every block; the mask of each prediction tells the next
    block which pixels to leave out.

    With ``positional_query='parameterized'``, ``high_resolution='off'``,
    ``num_blocks=9`` and ``mask_threshold=0.5`` this is Mask2Former's decoder.

    Args:
        embed_dims (int): C.
        num_classes (int): K.
        num_queries (int): Q.
        mask_channels (int, optional): channels of the mask features, C if
            None.
        num_blocks (int): number of blocks, at least one per level.
        num_heads (int): heads of every attention; must divide C.
        feedforward_channels (int): hidden channels of the FFN.
        high_resolution (str): what is read at stride 4: ``'hrca'``, windows
            that are chosen per picture; ``'hrca_per_query'``; ``'dense'``,
            the whole map; ``'off'``, nothing: block i works on level i mod 3.
        omega (int): one of ``omega`` windows is read at stride 4.
        window_size (int): pixels of the stride-4 map per window side.
        importance_stride (int): windows are chosen by the attention of the
            latest block of this stride: 32, 16 or 8.
        share_hrca_params (bool): one set of parameters for all
            high-resolution blocks.
        mask_threshold (float): a pixel whose mask probability is below it is
            blocked.
        positional_query (str): ``'dfpq'``, or a rival: ``'parameterized'``,
            ``'anchor'``, ``'none'``; see :mod:`.rival_queries`.
        initial_pool (str): see :class:`DynamicFocusAwareQuery`.
        box_aware (bool): positional queries also see the box around their
            mask, but for those of stride-4 cross-attention, which are the
            learned part alone; see :class:`BoxAwareFocusQuery`.
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
        high_resolution: str = 'hrca',
        omega: int = 32,
        window_size: int = 8,
        importance_stride: int = 32,
        share_hrca_params: bool = False,
        mask_threshold: float = 0.15,
        positional_query: str = 'dfpq',
        initial_pool: str = 'background',
        box_aware: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        kinds = (*HIGH_RESOLUTION_ATTENTIONS, 'off')
        if high_resolution not in kinds:
            raise ValueError(
                f'high_resolution must be one of {kinds}, got '
                f'{high_resolution!r}'
            )
        if importance_stride not in LEVEL_OF_STRIDE:
            raise ValueError(
                'importance_stride must be one of '
                f'{tuple(LEVEL_OF_STRIDE)}, got {importance_stride}'
            )
        self.num_levels = NUM_LEVELS - (high_resolution == 'off')
        if num_blocks < self.num_levels:
            raise ValueError(
                f'num_blocks={num_blocks} must be at least '
                f'{self.num_levels}: with fewer, a level is read by no block '
                'and never learns'
            )
        if not 0 <= mask_threshold < 1:
            raise ValueError(
                f'mask_threshold must lie in [0, 1), got {mask_threshold}'
            )
        self.mask_threshold = mask_threshold
        self.window_size = window_size
        self.per_query = high_resolution == 'hrca_per_query'
        self.importance_level = None
        if high_resolution.startswith('hrca'):
            self.importance_level = LEVEL_OF_STRIDE[importance_stride]
        self.with_cp = with_cp
        self.query_feat = nn.Embedding(num_queries, embed_dims)
        self.query_embed = (
            nn.Embedding(num_queries, embed_dims)
            if positional_query != 'none'
            else None
        )
        self.level_embed = nn.Embedding(self.num_levels, embed_dims)
        self.positional_query = make_positional_query(
            positional_query, embed_dims, initial_pool, box_aware
        )
        self.layers = nn.ModuleList()
        for block in range(num_blocks):
            reads_stride_4 = block % self.num_levels == HIGH_RESOLUTION
            if reads_stride_4 and share_hrca_params and block > NUM_LEVELS:
                self.layers.append(SameLayer(self.layers[HIGH_RESOLUTION]))
                continue
            cross_attn = (
                HIGH_RESOLUTION_ATTENTIONS[high_resolution](
                    embed_dims, num_heads, omega, window_size
                )
                if reads_stride_4
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
                (B, C, H_l, W_l); with ``high_resolution='off'`` 0 to 2.
            positions (Sequence[Tensor]): K_p of each, same shapes.
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
        static = torch.zeros_like(query)
        if self.query_embed is not None:
            static = self.query_embed.weight.expand(batch, -1, -1)
        embed = self.predictor.embed(query)
        query_pos = self.positional_query.initial(
            static, positions[0], self._mask_probability(embed, reduced[0])
        )
        keep_all = self.training or trace
        queries, embeds, traces = [query], [embed], []
        importance = embed.new_zeros(())  # blocks before the first read set it
        last = len(self.layers) - 1
        for block, layer in enumerate(self.layers):
            level = block % self.num_levels
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
                trace or (block < last and self._reads_attention(level)),
                with_cp=self.with_cp,
            )
            read_next = (block + 1) % self.num_levels != HIGH_RESOLUTION
            if keep_all or read_next or block == last:
                embed = self.predictor.embed(query)
            if not keep_all:
                queries, embeds = [], []
            queries.append(query)
            embeds.append(embed)
            if trace:
                read = cross_pos, positions[level], focus
                traces.append(self._trace(block, level, shapes, *read))
            if level == self.importance_level and block < last:
                importance = window_importance(
                    focus, shapes[level], shapes[0], 2**level, self.per_query
                )
            if level != HIGH_RESOLUTION and block < last:
                read_masks = partial(self._masks_of, query, reduced[level])
                query_pos = self.positional_query.update(
                    static, positions[level], focus, read_masks
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

    @torch.no_grad()
    def _masks_of(self, query: Tensor, features: Tensor) -> Tensor:
        return self._mask_probability(self.predictor.embed(query), features)

    def _reads_attention(self, level: int) -> bool:
        """Returns whether anything reads where a block looked."""
        if level == HIGH_RESOLUTION:
            return False
        return (
            self.positional_query.needs_attention
            or level == self.importance_level
        )

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
        level: int,
        shapes: list[tuple[int, int]],
        query_pos: Tensor,
        position: Tensor,
        focus: Tensor | WindowFocus,
    ) -> BlockTrace:
        about = (block, level, shapes[level], query_pos, position)
        if isinstance(focus, Tensor):
            return BlockTrace(*about, focus)
        return BlockTrace(
            *about,
            focus.attention,
            window_index=focus.index,
            window_grid=shapes[0],
            window_size=self.window_size,
            importance_level=self.importance_level,
        )
