"""Slow, obvious PyTorch definitions of the operators.

They are the specification, the fallback where nothing is compiled, and the
oracle of the tests.

Shapes:
    B: batch size.
    h: number of heads.
    d: channels per head.
    S: number of value tokens, the sum of H_l * W_l over the levels.
    N: number of queries.
    n_l: number of levels.
    P: number of sampling points per level.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Returns multi-scale deformable attention by bilinear sampling.

    Zhu et al., *Deformable DETR*, ICLR 2021, equation 3. A sample outside a
    map reads zeros; the centre of pixel ``i`` of ``n`` lies at
    ``(i + 0.5) / n``.

    Args:
        value (Tensor): shape (B, S, h, d), the levels one after another, each
            row-major.
        spatial_shapes (Sequence[tuple[int, int]]): (H_l, W_l) of each level.
        sampling_locations (Tensor): shape (B, N, h, n_l, P, 2), (x, y) in
            units of the map, 0 to 1 inside.
        attention_weights (Tensor): shape (B, N, h, n_l, P).

    Returns:
        Tensor: shape (B, N, h * d).
    """
    batch, _, heads, dims = value.shape
    num_queries, points = (
        sampling_locations.shape[1],
        attention_weights.size(4),
    )
    sizes = [height * width for height, width in spatial_shapes]
    grids = 2 * sampling_locations - 1  # grid_sample's units, -1 to 1
    samples = []
    for level, level_value in enumerate(value.split(sizes, dim=1)):
        height, width = spatial_shapes[level]
        # (B·h, d, H_l, W_l)
        maps = level_value.permute(0, 2, 3, 1).reshape(
            batch * heads, dims, height, width
        )
        # (B·h, N, P, 2)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        samples.append(
            F.grid_sample(
                maps,
                grid.to(maps.dtype),
                mode='bilinear',
                padding_mode='zeros',
                align_corners=False,
            )
        )  # (B·h, d, N, P)
    # (B·h, 1, N, n_l·P)
    weights = attention_weights.transpose(1, 2).reshape(
        batch * heads, 1, num_queries, len(sizes) * points
    )
    output = (torch.cat(samples, dim=-1) * weights).sum(-1)  # (B·h, d, N)
    output = output.view(batch, heads * dims, num_queries)
    return output.transpose(1, 2).contiguous()
