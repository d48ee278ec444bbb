"""Efficient high-resolution cross-attention (FASeg, section 3.3).

Shapes:
    B: batch size.
    Q: number of queries.
    C: embed_dims.
    H_0, W_0: the stride-32 map, which is the grid of windows.
    H_3, W_3: the stride-4 map.
    K: number of chosen windows.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from mmfaseg.ops import hrca_gather

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

    def forward(
        self,
        query: Tensor,
        memory: WindowMemory,
        importance: Tensor,
        need_focus: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the attended values and the windows that were read.

        Args:
            query (Tensor): static positions already added, shape (B, Q, C).
            memory (WindowMemory): the stride-4 level.
            importance (Tensor): of each stride-32 pixel, shape
                (B, H_0, W_0): attention of the latest stride-32 block, summed
                over queries.
            need_focus (bool): also return the chosen windows.

        Returns:
            tuple[Tensor, Tensor | None]: output, shape (B, Q, C), and the
            window indices, int64, shape (B, K).
        """
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
        output, _ = self.attn(query, key, value, blocked)
        return output, window_index if need_focus else None
