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
    sizes = [height * width for height, width in spatial_shapes]
    grids = 2 * sampling_locations - 1  # grid_sample's units, -1 to 1
    output = value.new_zeros(())
    for level, level_value in enumerate(value.split(sizes, dim=1)):
        # (B·h, d, H_l, W_l)
        maps = level_value.permute(0, 2, 3, 1).reshape(
            batch * heads, dims, *spatial_shapes[level]
        )
        samples = F.grid_sample(
            maps,
            grids[:, :, :, level].transpose(1, 2).flatten(0, 1),
            mode='bilinear',
            padding_mode='zeros',
            align_corners=False,
        )  # (B·h, d, N, P)
        weights = attention_weights[:, :, :, level].transpose(1, 2)
        # (B·h, d, N)
        output = output + (samples * weights.flatten(0, 1)[:, None]).sum(-1)
    return output.view(batch, heads * dims, -1).transpose(1, 2).contiguous()
