"""Deformable encoder over the stride-32, 16 and 8 maps.

Zhu et al., *Deformable DETR*, ICLR 2021, section 4.

Shapes: B batch size, C embed_dims, S tokens (the sum of H_l * W_l over the
levels), h num_heads, n_l levels, P sampling points per level.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmfaseg.ops import TokenLinear, linear, ms_deform_attn
from mmfaseg.utils.check_count import check_count

from .attention import FFN
from .low_memory import recompute, run_layer


@dataclass(frozen=True, eq=False)
class PixelGrid:
    """Pixel coordinates of a feature pyramid, normalized to [0, 1].

    Attributes:
        shapes (tuple[tuple[int, int], ...]): (H_l, W_l) of each level.
        centers (Tensor): center (x, y) of every pixel, shape (S, 2).
        pixel_size (Tensor): (1 / W_l, 1 / H_l) of each level, shape (n_l, 2).
    """

    shapes: tuple[tuple[int, int], ...]
    centers: Tensor
    pixel_size: Tensor


@torch.no_grad()
def pixel_grid(shapes: Sequence[tuple[int, int]], like: Tensor) -> PixelGrid:
    """Returns the grid of levels with the shapes (H_l, W_l).

    It has the device of ``like``, and its dtype if that is at least float32,
    which coordinates need.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    centers, sizes = [], []
    for height, width in shapes:
        y = torch.arange(height, device=like.device, dtype=dtype) + 0.5
        x = torch.arange(width, device=like.device, dtype=dtype) + 0.5
        points = torch.meshgrid(x / width, y / height, indexing='xy')
        centers.append(torch.stack(points, -1).flatten(0, 1))
        # unlike a copy from a list, this does not synchronize with the GPU
        sizes += [x.new_full((), 1 / width), x.new_full((), 1 / height)]
    return PixelGrid(
        tuple(shapes), torch.cat(centers), torch.stack(sizes).view(-1, 2)
    )


class MultiScaleDeformableAttention(nn.Module):
    """Self-attention to P sampled points per level, head and token.

    Args:
        embed_dims (int): number of channels, C.
        num_heads (int): number of attention heads, h; must divide C.
        num_levels (int): number of feature levels, n_l.
        num_points (int): number of sampling points, P.

    Raises:
        ValueError: if ``num_heads`` does not divide ``embed_dims``, or a
            number is not positive.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 8,
        num_levels: int = 3,
        num_points: int = 4,
    ) -> None:
        super().__init__()
        check_count('num_heads', num_heads)
        check_count('num_points', num_points)
        if embed_dims % num_heads:
            raise ValueError(
                f'embed_dims={embed_dims} must be a multiple of '
                f'num_heads={num_heads}'
            )
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dims, samples * 2)
        self.attention_weights = nn.Linear(embed_dims, samples)
        self.value_proj = TokenLinear(embed_dims, embed_dims)
        self.output_proj = TokenLinear(embed_dims, embed_dims)
        self.init_weights()

    def init_weights(self) -> None:
        """Makes each head sample 1 to P pixels away in its own direction."""
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1.0, self.num_points + 1)
        # (h, n_l, P, 2)
        offsets = direction[:, None, None] * distance[:, None]
        offsets = offsets.expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.reshape(-1))
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, tokens: Tensor, token_pos: Tensor, grid: PixelGrid
    ) -> Tensor:
        """Returns the attended tokens.

        Args:
            tokens (Tensor): shape (B, S, C).
            token_pos (Tensor): added to queries only, shape (B, S, C).
            grid (PixelGrid): coordinates of the tokens.

        Returns:
            Tensor: shape (B, S, C).
        """
        per_head = (self.num_heads, self.num_levels, self.num_points)
        offsets, weights = recompute(  # not stored: the queries
            self._project_queries, tokens, token_pos
        )
        # offsets are in pixels of the sampled level; multiplying flat rows is
        # much faster than a last dimension of two
        pixel_size = grid.pixel_size[:, None].expand(*per_head, 2)
        offsets = offsets * pixel_size.flatten()
        # (B, S, h, n_l, P, 2)
        locations = grid.centers[:, None, None, None] + offsets.unflatten(
            2, (*per_head, 2)
        )
        weights = _softmax(weights.unflatten(2, (self.num_heads, -1)))
        value = self.value_proj(tokens).unflatten(2, (self.num_heads, -1))
        weights = weights.unflatten(3, per_head[1:])
        output = ms_deform_attn(value, grid.shapes, locations, weights)
        return self.output_proj(output)

    def _project_queries(
        self, tokens: Tensor, token_pos: Tensor
    ) -> tuple[Tensor, ...]:
        """Returns offsets (B, S, h * n_l * P * 2) and logits of weights."""
        layers = self.sampling_offsets, self.attention_weights
        weight = torch.cat([x.weight for x in layers])
        bias = torch.cat([x.bias for x in layers])
        samples = linear(tokens + token_pos, weight, bias)
        return samples.split([x.out_features for x in layers], -1)


def _softmax(logits: Tensor) -> Tensor:
    """Returns the softmax of short rows.

    PyTorch's CPU kernel does not vectorize over short rows; without a graph,
    tensor operations are five times faster.
    """
    if logits.device.type != 'cpu' or logits.requires_grad:
        return logits.softmax(-1)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    powers = (logits.to(dtype) - logits.amax(-1, keepdim=True)).exp_()
    return powers.div_(powers.sum(-1, keepdim=True))


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention and FFN, each followed by LayerNorm.

    The arguments are those of :class:`DeformableEncoder`.
    """

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
    ) -> None:
        super().__init__()
        self.self_attn = MultiScaleDeformableAttention(
            embed_dims, num_heads, num_levels, num_points
        )
        self.self_norm = nn.LayerNorm(embed_dims)
        self.ffn = FFN(embed_dims, feedforward_channels)
        self.ffn_norm = nn.LayerNorm(embed_dims)

    def forward(
        self, tokens: Tensor, token_pos: Tensor, grid: PixelGrid
    ) -> Tensor:
        """Returns the updated tokens, shape (B, S, C)."""
        attended = self.self_attn(tokens, token_pos, grid)
        tokens = self.self_norm(tokens + attended)
        return self.ffn_norm(tokens + self.ffn(tokens))


class DeformableEncoder(nn.Module):
    """Deformable self-attention across all levels.

    Args:
        embed_dims (int): number of channels, C.
        num_layers (int): number of layers.
        feedforward_channels (int): hidden channels of the FFN.
        num_heads (int): number of attention heads, h; must divide C.
        num_levels (int): number of feature levels, n_l.
        num_points (int): number of sampling points, P.
        with_cp (bool): use gradient checkpointing.

    Raises:
        ValueError: if a number is not positive, or ``num_heads`` does not
            divide C.
    """

    def __init__(
        self,
        embed_dims: int,
        num_layers: int = 6,
        feedforward_channels: int = 1024,
        num_heads: int = 8,
        num_levels: int = 3,
        num_points: int = 4,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        check_count('num_layers', num_layers)
        self.with_cp = with_cp
        self.level_embed = nn.Embedding(num_levels, embed_dims)
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                embed_dims,
                feedforward_channels,
                num_heads,
                num_levels,
                num_points,
            )
            for _ in range(num_layers)
        )

    def forward(
        self, features: Sequence[Tensor], positions: Sequence[Tensor]
    ) -> list[Tensor]:
        """Returns the maps after all layers.

        Args:
            features (Sequence[Tensor]): projected maps, coarsest first, each
                (B, C, H_l, W_l), as are their K_p and the results.
            positions (Sequence[Tensor]): positional encoding K_p of each map.
        """
        shapes = [(x.size(2), x.size(3)) for x in features]
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in features], 1)
        token_pos = torch.cat(
            [
                x.flatten(2).transpose(1, 2) + self.level_embed.weight[level]
                for level, x in enumerate(positions)
            ],
            1,
        )
        grid = pixel_grid(shapes, tokens)
        for layer in self.layers:
            tokens = run_layer(
                layer, tokens, token_pos, grid, with_cp=self.with_cp
            )
        maps = tokens.split([height * width for height, width in shapes], 1)
        return [
            # unlike transpose and unflatten, this order gives channels-last
            # strides for a single image too
            x.unflatten(1, shape).permute(0, 3, 1, 2)
            for x, shape in zip(maps, shapes, strict=True)
        ]
