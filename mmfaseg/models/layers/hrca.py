"""Efficient high-resolution cross-attention, HRCA (FASeg, section 3.3).

Shapes: B batch size, Q queries, C embed_dims, K selected windows, H_l x W_l
the map of level l = 0, 1, 2, 3 with stride 32, 16, 8, 4; the pixels of level 0
are the grid of windows.
"""

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from mmfaseg.ops import check_windows, hrca_gather
from mmfaseg.ops.reference import window_pixels
from mmfaseg.registry import MODELS

from .cross_attention import CrossAttention
from .feature_level import DecoderState, FeatureLevel

IMPORTANCE_STRIDES = (32, 16, 8)


@MODELS.register_module()
class HighResolutionCrossAttention(CrossAttention):
    """Attends to the stride-4 windows with the highest coarse attention.

    All queries of an image share the same K = max(1, H_0 * W_0 // omega)
    windows. No mask is applied, and the learned positional query is used.

    Args:
        embed_dims (int): number of channels, C.
        num_heads (int): number of attention heads; must divide C.
        omega (int): reduction ratio; one in ``omega`` windows is selected.
        window_size (int): stride-4 pixels per window side, the ratio of the
            coarsest to the finest stride.
        importance_stride (int): stride, 32, 16 or 8, whose latest attention
            determines the importance of the windows.

    Raises:
        ValueError: if an argument is out of range.
    """

    needs_tokens = False
    coarse_level: int
    window_size: int

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        omega: int = 32,
        window_size: int = 8,
        importance_stride: int = 32,
    ) -> None:
        super().__init__(embed_dims, num_heads)
        for name, number in (('omega', omega), ('window_size', window_size)):
            if not isinstance(number, int) or number < 1:
                raise ValueError(
                    f'{name} must be an integer of at least 1, got {number}'
                )
        if importance_stride not in IMPORTANCE_STRIDES:
            raise ValueError(
                f'importance_stride must be one of {IMPORTANCE_STRIDES}, got '
                f'{importance_stride}'
            )
        self.omega = omega
        self.window_size = window_size
        self.coarse_level = IMPORTANCE_STRIDES.index(importance_stride)

    @override
    def select_query_pos(self, state: DecoderState) -> Tensor:
        return state.query_embed

    @override
    def importance(self, state: DecoderState, level: FeatureLevel) -> Tensor:
        """Returns the attention of all queries to each window, (B, H_0, W_0).

        Override this method to select windows by another criterion.
        """
        assert state.coarse_attention is not None
        return sum_windows(
            state.coarse_attention.sum(1),
            level.window_grid,
            2**self.coarse_level,
        )

    @override
    def select_windows(
        self, state: DecoderState, level: FeatureLevel
    ) -> Tensor:
        importance = self.importance(state, level).flatten(-2)
        num_windows = max(1, importance.size(-1) // self.omega)
        return importance.topk(num_windows).indices

    @override
    def forward(
        self,
        query: Tensor,
        state: DecoderState,
        level: FeatureLevel,
        need_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        window_index = self.select_windows(state, level)  # (B, K)
        value, key, outside = hrca_gather(
            level.memory,
            level.position,
            window_index,
            self.window_size,
            level.window_grid,
            level.level_embed,
        )
        blocked = None if outside is None else outside.unsqueeze(1)
        query = query + self.select_query_pos(state)
        output, attention = self.attn(
            query, key, value, blocked, need_attention
        )
        if attention is not None:
            attention = scatter_windows(
                attention, window_index, self.window_size, level
            )
        return output, attention


def scatter_windows(
    attention: Tensor,
    window_index: Tensor,
    window_size: int,
    level: FeatureLevel,
) -> Tensor:
    """Scatters the attention to window tokens onto the map of the level.

    Args:
        attention (Tensor): shape (B, Q, K * s * s), in the order of
            :func:`mmfaseg.ops.hrca_gather`.
        window_index (Tensor): row-major window indices, int64, shape (B, K).
        window_size (int): pixels per window side, s.
        level (FeatureLevel): the stride-4 level.

    Returns:
        Tensor: zero outside the windows, shape (B, Q, H_3 * W_3).
    """
    height, width = level.shape
    pixels, _ = window_pixels(
        window_index, window_size, level.window_grid, level.shape
    )
    full = attention.new_zeros(*attention.shape[:2], height * width)
    # window pixels outside the map have no attention and add only zeros
    return full.scatter_add_(
        2, pixels[:, None].expand_as(attention), attention
    )


def sum_windows(
    attention: Tensor, grid: tuple[int, int], window_size: int
) -> Tensor:
    """Sums a map over the pixels of each window.

    Args:
        attention (Tensor): shape (..., H_l, W_l).
        grid (tuple[int, int]): (H_0, W_0).
        window_size (int): pixels of ``attention`` per window side.

    Returns:
        Tensor: shape (..., H_0, W_0).

    Raises:
        ValueError: if the windows do not cover the map.
    """
    if window_size == 1:
        return attention
    height, width = attention.shape[-2:]
    check_windows(grid, window_size, (height, width))
    bottom = grid[0] * window_size - height
    right = grid[1] * window_size - width
    padded = F.pad(attention, (0, right, 0, bottom))
    cells = padded.unflatten(-1, (grid[1], window_size))
    return cells.unflatten(-3, (grid[0], window_size)).sum((-3, -1))
