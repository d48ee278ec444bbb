"""Multi-head attention and the feed-forward network that follows it.

Shapes: B batch size, Q queries, L keys, C embed_dims, h num_heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfaseg.ops import TokenLinear, linear
from mmfaseg.utils.check_count import check_count

from .low_memory import chunks, recompute


class MultiheadAttention(nn.Module):
    """Multi-head attention with parameters named as in ``torch.nn``.

    ``torch.nn.MultiheadAttention`` needs a floating-point copy of the mask
    for each head; here all heads share one boolean mask, (B, Q, L).

    Args:
        embed_dims (int): number of channels, C.
        num_heads (int): number of attention heads, h; must divide C.

    Raises:
        ValueError: if ``num_heads`` is not positive or does not divide
            ``embed_dims``.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        check_count('num_heads', num_heads)
        if embed_dims % num_heads:
            raise ValueError(
                f'embed_dims={embed_dims} must be a multiple of '
                f'num_heads={num_heads}'
            )
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(
            torch.empty(3 * embed_dims, embed_dims)
        )
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dims))
        self.out_proj = nn.Linear(embed_dims, embed_dims)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocked: Tensor | None = None,
        need_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the attended values and, on request, the attention.

        Args:
            query (Tensor): shape (B, Q, C), positions already added.
            key (Tensor): shape (B, L, C), positions already added.
            value (Tensor): shape (B, L, C).
            blocked (Tensor, optional): bool, shape (B, Q, L) or (B, 1, L);
                True where a query must not attend. No row may be all True.
            need_attention (bool): also return the probabilities.

        Returns:
            tuple[Tensor, Tensor | None]:
            - output: shape (B, Q, C).
            - attention: probabilities averaged over heads, shape (B, Q, L),
              or None.
        """
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3)
        q, k, v = (
            self._split_heads(linear(x, weight, bias))
            for x, weight, bias in zip(
                (query, key, value), weights, biases, strict=True
            )
        )  # each (B, h, Q or L, C/h)
        if blocked is not None:
            blocked = blocked.unsqueeze(1)  # (B, 1, Q, L)
        if need_attention:
            output, attention = recompute(  # not stored: one map per head
                _attend_with_probabilities, q, k, v, blocked
            )
        else:
            allowed = None if blocked is None else ~blocked
            output = F.scaled_dot_product_attention(q, k, v, allowed)
            attention = None
        output = output.transpose(1, 2).flatten(2)  # (B, Q, C)
        return self.out_proj(output), attention

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def _attend_with_probabilities(
    query: Tensor, key: Tensor, value: Tensor, blocked: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Returns output, (B, h, Q, C/h), and mean probabilities, (B, Q, L).

    Heads are processed in chunks, as the probabilities of all heads would be
    the largest tensor of the decoder: only those of one chunk are in memory at
    a time; in the backward pass, those of all heads of one layer.
    """
    batch, heads, queries, channels = query.shape
    query = query * channels**-0.5
    penalty = None
    if blocked is not None:  # (B, 1, Q, L); faster than masked_fill
        penalty = query.new_zeros(blocked.shape)
        penalty.masked_fill_(blocked, float('-inf'))
    total_dtype = torch.promote_types(query.dtype, torch.float32)
    total = query.new_zeros(batch, queries, key.size(2), dtype=total_dtype)
    outputs, numel = [], total.numel()
    in_place = query.device.type == 'cpu' and not (
        torch.is_grad_enabled()
        or torch.is_autocast_enabled('cpu')  # softmax then returns float32
        or torch.compiler.is_compiling()
    )
    # two CPU threads would exchange the scores of a single head
    multiple = 2 if in_place else 1
    for chunk in chunks(heads, numel, query.device, multiple):
        attention = query[:, chunk] @ key[:, chunk].transpose(2, 3)
        if penalty is not None:
            attention += penalty.to(attention.dtype)
        out = attention if in_place else None
        attention = torch.softmax(attention, -1, out=out)
        outputs.append(attention.to(value.dtype) @ value[:, chunk])
        # in half precision the mean would depend on the chunks
        total += attention.sum(1, dtype=total_dtype)
        dtype = attention.dtype
        del attention, out  # before the scores of the next chunk
    return torch.cat(outputs, 1), (total / heads).to(dtype)


class FFN(nn.Sequential):
    """Linear, ReLU and Linear, without shortcut and norm.

    Args:
        embed_dims (int): number of input and output channels, C.
        feedforward_channels (int): number of hidden channels.

    Raises:
        ValueError: if ``feedforward_channels`` is not positive.
    """

    def __init__(self, embed_dims: int, feedforward_channels: int) -> None:
        check_count('feedforward_channels', feedforward_channels)
        first = TokenLinear(embed_dims, feedforward_channels)
        second = TokenLinear(feedforward_channels, embed_dims)
        for layer in (first, second):
            nn.init.xavier_uniform_(layer.weight)
        super().__init__(first, nn.ReLU(inplace=True), second)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the output for tokens of shape (..., C)."""
        # a linear layer returns a view unless its input is a matrix, and
        # in-place changes of a view make the backward pass slower
        return super().forward(x.flatten(0, -2)).view_as(x)
