"""Deformable encoder over the stride-32, 16 and 8 maps.

Zhu et al., *Deformable DETR*, ICLR 2021, section 4.

Shapes:
    B: batch size.
    C: embed_dims.
    S: number of tokens, the sum of H_l * W_l over the levels.
    h: num_heads.
    n_l: number of levels.
    P: number of sampling points per level.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfaseg.ops import ms_deform_attn

from .ffn import make_ffn


class MultiScaleDeformableAttention(nn.Module):
    """Self-attention to P sampled points per level, head and token.

    Args:
        embed_dims (int): C.
        num_heads (int): h; must divide C.
        num_levels (int): n_l.
        num_points (int): P.

    Raises:
        ValueError: if ``num_heads`` does not divide ``embed_dims``.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 8,
        num_levels: int = 3,
        num_points: int = 4,
    ) -> None:
        super().__init__()
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
        self.value_proj = nn.Linear(embed_dims, embed_dims)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self.init_weights()

    def init_weights(self) -> None:
        """Points each head in a direction of its own, point p at p pixels."""
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
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        tokens: Tensor,
        token_pos: Tensor,
        reference_points: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Returns the attended tokens.

        Args:
            tokens (Tensor): shape (B, S, C).
            token_pos (Tensor): added to queries only, shape (B, S, C).
            reference_points (Tensor): (x, y) of each token, 0 to 1, shape
                (S, 2).
            spatial_shapes (Sequence[tuple[int, int]]): (H_l, W_l).

        Returns:
            Tensor: shape (B, S, C).
        """
        query = tokens + token_pos
        per_head = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).unflatten(2, (*per_head, 2))
        weights = self.attention_weights(query).unflatten(
            2, (self.num_heads, -1)
        )
        weights = weights.softmax(-1).unflatten(3, per_head[1:])
        # offsets count pixels of the level that is sampled; (n_l, 1, 2)
        scale = reference_points.new_tensor(
            [[width, height] for height, width in spatial_shapes]
        )[:, None]
        # (B, S, h, n_l, P, 2)
        locations = reference_points[:, None, None, None] + offsets / scale
        value = self.value_proj(tokens).unflatten(2, (self.num_heads, -1))
        output = ms_deform_attn(value, spatial_shapes, locations, weights)
        return self.output_proj(output)


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention and FFN, each with a norm after it.

    Args:
        embed_dims (int): C.
        feedforward_channels (int): hidden channels of the FFN.
        num_heads (int): h.
        num_levels (int): n_l.
        num_points (int): P.
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
        self.ffn = make_ffn(embed_dims, feedforward_channels)
        self.ffn_norm = nn.LayerNorm(embed_dims)

    def forward(
        self,
        tokens: Tensor,
        token_pos: Tensor,
        reference_points: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Returns the updated tokens, shape (B, S, C); arguments as above."""
        attended = self.self_attn(
            tokens, token_pos, reference_points, spatial_shapes
        )
        tokens = self.self_norm(tokens + attended)
        return self.ffn_norm(tokens + self.ffn(tokens))


class DeformableEncoder(nn.Module):
    """Lets the levels exchange what they know.

    Args:
        embed_dims (int): C.
        num_layers (int): number of layers.
        feedforward_channels (int): hidden channels of the FFN.
        num_heads (int): h; must divide C.
        num_levels (int): n_l.
        num_points (int): P.
    """

    def __init__(
        self,
        embed_dims: int,
        num_layers: int = 6,
        feedforward_channels: int = 1024,
        num_heads: int = 8,
        num_levels: int = 3,
        num_points: int = 4,
    ) -> None:
        super().__init__()
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
                (B, C, H_l, W_l).
            positions (Sequence[Tensor]): K_p of each, same shapes.

        Returns:
            list[Tensor]: same shapes.
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
        points = pixel_centres(shapes, tokens)
        for layer in self.layers:
            tokens = layer(tokens, token_pos, points, shapes)
        maps = tokens.split([height * width for height, width in shapes], 1)
        return [
            x.transpose(1, 2).unflatten(2, shape)
            for x, shape in zip(maps, shapes, strict=True)
        ]


def pixel_centres(shapes: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
    """Returns the centre of every pixel of every level.

    Args:
        shapes (Sequence[tuple[int, int]]): (H_l, W_l) of each level.
        like (Tensor): gives the device and, if it is float64, the dtype;
            half precision is too coarse for coordinates.

    Returns:
        Tensor: (x, y), 0 to 1, shape (S, 2).
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    centres = []
    for height, width in shapes:
        y = torch.arange(height, device=like.device, dtype=dtype) + 0.5
        x = torch.arange(width, device=like.device, dtype=dtype) + 0.5
        grid = torch.stack(
            torch.meshgrid(x / width, y / height, indexing='xy'), -1
        )
        centres.append(grid.flatten(0, 1))
    return torch.cat(centres)
