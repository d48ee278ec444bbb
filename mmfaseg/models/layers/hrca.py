"""Efficient high-resolution cross-attention (FASeg, section 3.3), and rivals.

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    H_0, W_0: the stride-32 map, which is the grid of windows.
    H_3, W_3: the stride-4 map.
    K: number of chosen windows.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from mmfaseg.ops import hrca_gather, windows_tile_map
from mmfaseg.ops.reference import window_pixels

from .attention import MultiheadAttention


@dataclass
class WindowMemory:
    """The stride-4 level, left as maps because only windows are read.

    Attributes:
        feature (Tensor): shape (B, C, H_3, W_3).
        position (Tensor): K_p, shape (B, C, H_3, W_3).
        level_embed (Tensor): shape (C,).
    """

    feature: Tensor
    position: Tensor
    level_embed: Tensor

    def tokens(self) -> tuple[Tensor, Tensor]:
        """Returns keys and values of all pixels, each (B, H_3 * W_3, C)."""
        value = self.feature.flatten(2).transpose(1, 2) + self.level_embed
        return value + self.position.flatten(2).transpose(1, 2), value


@dataclass
class WindowFocus:
    """Where a block that reads windows looked.

    Attributes:
        index (Tensor): chosen windows, most important first, int64, shape
            (B, K); with a choice per query (B, Q, K).
        attention (Tensor): averaged over heads, shape (B, Q, H_3 * W_3), zero
            outside of the windows.
    """

    index: Tensor
    attention: Tensor


class HighResolutionCrossAttention(nn.Module):
    """Attends to the stride-4 windows that stride-32 attention points at.

    One choice per picture, shared by all queries: attention over the tokens
    of the K = max(1, H_0 * W_0 // omega) most important windows, no mask.

    Args:
        embed_dims (int): C.
        num_heads (int): number of heads; must divide C.
        omega (int): one window of ``omega`` is read.
        window_size (int): pixels of the stride-4 map per window side, the
            ratio of the strides of the coarsest and the finest level.

    Raises:
        ValueError: if ``omega`` or ``window_size`` is not positive.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        omega: int = 32,
        window_size: int = 8,
    ) -> None:
        super().__init__()
        for name, number in (('omega', omega), ('window_size', window_size)):
            if not isinstance(number, int) or number < 1:
                raise ValueError(
                    f'{name} must be an integer of at least 1, got {number}'
                )
        self.omega = omega
        self.window_size = window_size
        self.attn = MultiheadAttention(embed_dims, num_heads)

    def select_windows(self, importance: Tensor) -> Tensor:
        """Returns the most important windows, best first.

        Args:
            importance (Tensor): shape (B, H_0, W_0).

        Returns:
            Tensor: int64, shape (B, K), values in [0, H_0 * W_0).
        """
        scores = importance.detach().flatten(1)
        num_windows = max(1, scores.size(1) // self.omega)
        return scores.topk(num_windows, dim=1).indices

    def check_windows(self, importance: Tensor, memory: WindowMemory) -> None:
        """Raises ValueError unless the windows cover the stride-4 map.

        They may stick out of it.
        """
        grid = importance.size(-2), importance.size(-1)
        shape = memory.feature.size(2), memory.feature.size(3)
        side = self.window_size
        windows_tile_map(grid, side, shape)  # raises if one lies outside
        if grid[0] * side < shape[0] or grid[1] * side < shape[1]:
            raise ValueError(
                f'windows of {side}x{side} pixels on a grid of {grid} do not '
                f'cover a map of {shape}: the window size must be the ratio '
                'of the strides of the coarsest and the finest map'
            )

    def forward(
        self,
        query: Tensor,
        memory: WindowMemory,
        importance: Tensor,
        need_focus: bool = True,
    ) -> tuple[Tensor, WindowFocus | Tensor | None]:
        """Returns the attended values and where each query looked.

        Args:
            query (Tensor): static positions already added, shape (B, Q, C).
            memory (WindowMemory): the stride-4 level.
            importance (Tensor): of each window, shape (B, H_0, W_0):
                attention of the latest stride-32 block, summed over queries,
                or of a finer one, see :func:`window_importance`.
            need_focus (bool): also return the chosen windows and the
                attention in them.

        Returns:
            tuple[Tensor, WindowFocus | None]: output, shape (B, Q, C), and
            the focus.
        """
        self.check_windows(importance, memory)
        window_index = self.select_windows(importance)
        value, key, outside = hrca_gather(
            memory.feature,
            memory.position,
            window_index,
            self.window_size,
            (importance.size(1), importance.size(2)),
            memory.level_embed,
        )
        blocked = None if outside is None else outside.unsqueeze(1)
        output, attention = self.attn(query, key, value, blocked, need_focus)
        if attention is None:
            return output, None
        shape = memory.feature.size(2), memory.feature.size(3)
        pixels, _ = window_pixels(
            window_index,
            self.window_size,
            (importance.size(1), importance.size(2)),
            shape,
        )
        spread = attention.new_zeros(*query.shape[:2], shape[0] * shape[1])
        # a pixel outside of the map stands at its border, with no attention
        spread.scatter_add_(2, pixels[:, None].expand_as(attention), attention)
        return output, WindowFocus(window_index, spread)


class DenseCrossAttention(HighResolutionCrossAttention):
    """Attends to the whole stride-4 map: what HRCA spares.

    Arguments are those of the parent; windows are not chosen.
    """

    def forward(
        self,
        query: Tensor,
        memory: WindowMemory,
        importance: Tensor,
        need_focus: bool = True,
    ) -> tuple[Tensor, WindowFocus | Tensor | None]:
        """Returns the attended values and where each query looked.

        Arguments are those of the parent; ``importance`` is not read, and
        the focus is the attention alone, (B, Q, H_3 * W_3).
        """
        return self.attn(query, *memory.tokens(), None, need_focus)


class PerQueryWindowAttention(HighResolutionCrossAttention):
    """HRCA in which every query chooses windows of its own.

    The windows of a hundred queries are most of the map: it is masked, not
    gathered, and costs what attention to the whole map costs. Arguments are
    those of the parent.
    """

    def forward(
        self,
        query: Tensor,
        memory: WindowMemory,
        importance: Tensor,
        need_focus: bool = True,
    ) -> tuple[Tensor, WindowFocus | Tensor | None]:
        """Returns the attended values and where each query looked.

        Arguments are those of the parent, but ``importance`` has the shape
        (B, Q, H_0, W_0), and the window indices have (B, Q, K).
        """
        batch, queries, *grid = importance.shape
        self.check_windows(importance, memory)
        window_index = self.select_windows(importance.flatten(0, 1))
        window_index = window_index.unflatten(0, (batch, queries))
        left_out = importance.new_ones(batch, queries, grid[0] * grid[1])
        left_out.scatter_(2, window_index, 0)
        blocked = left_out.bool().unflatten(2, grid)
        for axis in (2, 3):
            blocked = blocked.repeat_interleave(self.window_size, axis)
        height, width = memory.feature.shape[2:]
        blocked = blocked[..., :height, :width].flatten(2)
        output, attention = self.attn(
            query, *memory.tokens(), blocked, need_focus
        )
        if attention is None:
            return output, None
        return output, WindowFocus(window_index, attention)


HIGH_RESOLUTION_ATTENTIONS = {
    'hrca': HighResolutionCrossAttention,
    'hrca_per_query': PerQueryWindowAttention,
    'dense': DenseCrossAttention,
}


def window_importance(
    attention: Tensor,
    shape: tuple[int, int],
    grid: tuple[int, int],
    side: int = 1,
    per_query: bool = False,
) -> Tensor:
    """Returns how much attention each window of the stride-4 map got.

    Args:
        attention (Tensor): of a level, shape (B, Q, H_l * W_l).
        shape (tuple[int, int]): (H_l, W_l).
        grid (tuple[int, int]): (H_0, W_0).
        side (int): pixels of the level per window side; those of the last
            row and column may be fewer.
        per_query (bool): one answer per query, not one per picture.

    Returns:
        Tensor: the sum over queries and pixels, shape (B, H_0, W_0), or over
        pixels alone, (B, Q, H_0, W_0).

    Raises:
        ValueError: if the windows do not cover the level.
    """
    if per_query:
        importance = attention.unflatten(2, shape)
    else:
        importance = attention.sum(1).unflatten(1, shape)
    if side == 1:
        return importance
    margin = [side * n - length for n, length in zip(grid, shape, strict=True)]
    if min(margin) < 0:
        raise ValueError(
            f'{side}x{side} pixels for each of {grid} windows do not cover a '
            f'map of {shape}: take importance_stride=32, or pad pictures to '
            'a multiple of 32'
        )
    padded = F.pad(importance, (0, margin[1], 0, margin[0]))
    cells = padded.unflatten(-1, (grid[1], side))
    return cells.unflatten(-3, (grid[0], side)).sum((-3, -1))
