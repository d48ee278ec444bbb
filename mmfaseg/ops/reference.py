"""PyTorch reference implementations of the operators.

They are the fallback if no operator is compiled for a device, and the expected
results in tests.

Shapes: B batch size, C channels of a map, K selected windows, s window size in
pixels of the stride-4 map, H_0 x W_0 the grid of windows (the stride-32 map),
H_3 x W_3 the stride-4 map, h heads, d channels per head, S value tokens (the
sum of H_l * W_l over the levels), N queries, n_l levels, P sampling points per
level.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def hrca_gather(
    feature: Tensor,
    position: Tensor,
    window_index: Tensor,
    window_size: int,
    grid: tuple[int, int],
    level_embed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns value and key of the selected windows (FASeg, section 3.3).

    See :func:`mmfaseg.ops.hrca_gather` for the arguments and results.
    """
    shape = (feature.size(2), feature.size(3))
    pixels, outside = window_pixels(window_index, window_size, grid, shape)
    dtype = torch.promote_types(feature.dtype, position.dtype)
    sums = torch.promote_types(dtype, torch.float32)
    value = _gather_pixels(feature, pixels).to(sums)
    shift = _gather_pixels(position, pixels).to(sums)
    if outside is not None:
        value = value.masked_fill(outside[..., None], 0)
        shift = shift.masked_fill(outside[..., None], 0)
    if level_embed is not None:
        value = value + level_embed.to(sums)
    return value.to(dtype), (value + shift).to(dtype)


def window_pixels(
    window_index: Tensor,
    window_size: int,
    grid: tuple[int, int],
    shape: tuple[int, int],
) -> tuple[Tensor, Tensor | None]:
    """Returns the pixels of the selected windows as flat indices of the map.

    Args:
        window_index (Tensor): int64, shape (B, K), values in [0, H_0 * W_0).
        window_size (int): s, pixels of the stride-4 map per window side.
        grid (tuple[int, int]): (H_0, W_0).
        shape (tuple[int, int]): (H_3, W_3).

    Returns:
        tuple[Tensor, Tensor | None]:
        - pixel_index: int64, shape (B, K * s²), values in [0, H_3 * W_3);
          pixels outside the map are moved to the border.
        - outside: bool, shape (B, K * s²), true for pixels outside the map;
          None if the windows tile the map.
    """
    height, width = shape
    inner = torch.arange(window_size, device=window_index.device)
    row = window_index // grid[1]
    column = window_index - row * grid[1]  # ONNX has no % by a dynamic size
    rows = (row * window_size)[..., None] + inner
    columns = (column * window_size)[..., None] + inner
    rows, columns = rows[..., :, None], columns[..., None, :]  # (B, K, s, s)
    if shape == (grid[0] * window_size, grid[1] * window_size):
        return (rows * width + columns).flatten(1), None
    outside = (rows >= height) | (columns >= width)
    pixels = rows.clamp(max=height - 1) * width + columns.clamp(max=width - 1)
    return pixels.flatten(1), outside.flatten(1)


def _gather_pixels(feature: Tensor, pixels: Tensor) -> Tensor:
    """Gathers (B, C, H, W) at (B, N) to (B, N, C) without copying the map."""
    if feature.is_contiguous(memory_format=torch.channels_last):
        tokens = feature.permute(0, 2, 3, 1).flatten(1, 2)
        index = pixels[..., None].expand(-1, -1, tokens.size(2))
        return tokens.gather(1, index)
    planes = feature.flatten(2)
    index = pixels[:, None].expand(-1, planes.size(1), -1)
    return planes.gather(2, index).transpose(1, 2)


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Returns multi-scale deformable attention by bilinear sampling.

    Samples outside a map are zero; the center of pixel ``i`` of ``n`` is at
    ``(i + 0.5) / n``. See :func:`mmfaseg.ops.ms_deform_attn` for the arguments
    and the result.
    """
    batch, _, heads, dims = value.shape
    grids = 2 * sampling_locations - 1  # in units of grid_sample, -1 to 1
    output = value.new_zeros(batch * heads, dims, attention_weights.size(1))
    sizes = [height * width for height, width in spatial_shapes]
    levels = zip(value.split(sizes, 1), spatial_shapes, strict=True)
    for level, (level_value, (height, width)) in enumerate(levels):
        # (B·h, d, H_l, W_l)
        maps = level_value.permute(0, 2, 3, 1).reshape(
            batch * heads, dims, height, width
        )
        samples = F.grid_sample(
            maps,
            grids[:, :, :, level].transpose(1, 2).flatten(0, 1),
            align_corners=False,
        )  # (B·h, d, N, P)
        weights = attention_weights[:, :, :, level].transpose(1, 2)
        # (B·h, d, N)
        output = output + (samples * weights.flatten(0, 1)[:, None]).sum(-1)
    queries = attention_weights.size(1)
    output = output.view(batch, heads * dims, queries)
    return output.transpose(1, 2).contiguous()
