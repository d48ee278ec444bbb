"""Windows of high-resolution cross-attention: which pixels they hold.

Shapes:
    B: batch size.
    K: number of chosen windows.
    s: window size, pixels of the stride-4 map.
    H_0, W_0: the grid of windows, which is the stride-32 map.
    H_3, W_3: the stride-4 map.
"""

import torch
from torch import Tensor


def windows_tile_map(
    grid: tuple[int, int], window_size: int, shape: tuple[int, int]
) -> bool:
    """Returns whether the windows cover the map without sticking out of it.

    Args:
        grid (tuple[int, int]): (H_0, W_0).
        window_size (int): pixels of the stride-4 map per window side.
        shape (tuple[int, int]): (H_3, W_3).

    Raises:
        ValueError: if a whole row or column of windows lies outside the map.
    """
    for cells, pixels in zip(grid, shape, strict=True):
        if (cells - 1) * window_size >= pixels:
            raise ValueError(
                f'windows of {window_size}x{window_size} pixels on a grid of '
                f'{grid} do not fit a map of {shape}: the window size must be '
                'the ratio of the strides of the coarsest and the finest map'
            )
    return all(
        cells * window_size == pixels
        for cells, pixels in zip(grid, shape, strict=True)
    )


def window_pixels(
    window_index: Tensor,
    window_size: int,
    grid: tuple[int, int],
    shape: tuple[int, int],
) -> tuple[Tensor, Tensor | None]:
    """Returns the pixels of the chosen windows as flat indices of the map.

    Args:
        window_index (Tensor): int64, shape (B, K), values in [0, H_0 * W_0).
        window_size (int): s, pixels of the stride-4 map per window side.
        grid (tuple[int, int]): (H_0, W_0).
        shape (tuple[int, int]): (H_3, W_3).

    Returns:
        tuple[Tensor, Tensor | None]:
        - pixel_index: int64, shape (B, K * s²), values in [0, H_3 * W_3);
          a pixel of a window that sticks out is moved to the border.
        - outside: bool, shape (B, K * s²), true where a pixel was moved;
          None if the windows tile the map.
    """
    tiled = windows_tile_map(grid, window_size, shape)
    height, width = shape
    inner = torch.arange(window_size, device=window_index.device)
    rows = (window_index // grid[1] * window_size)[..., None] + inner
    columns = (window_index % grid[1] * window_size)[..., None] + inner
    rows, columns = rows[..., :, None], columns[..., None, :]  # (B, K, s, s)
    if tiled:
        return (rows * width + columns).flatten(1), None
    outside = (rows >= height) | (columns >= width)
    pixels = rows.clamp(max=height - 1) * width + columns.clamp(max=width - 1)
    return pixels.flatten(1), outside.flatten(1)


def hrca_gather(
    feature: Tensor,
    position: Tensor,
    window_index: Tensor,
    window_size: int,
    grid: tuple[int, int],
    level_embed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns the tokens of the chosen windows; reads nothing else.

    Args:
        feature (Tensor): shape (B, C, H_3, W_3).
        position (Tensor): K_p, shape (B, C, H_3, W_3).
        window_index (Tensor): int64, shape (B, K), values in [0, H_0 * W_0).
        window_size (int): s, pixels of the stride-4 map per window side.
        grid (tuple[int, int]): (H_0, W_0).
        level_embed (Tensor, optional): added to every token, shape (C,).

    Returns:
        tuple[Tensor, Tensor, Tensor | None]:
        - value: shape (B, K * s², C), feature + level_embed.
        - key: shape (B, K * s², C), value + position.
        - outside: bool, shape (B, K * s²), true for tokens beyond the border
          of the map; None if there are none.

    Raises:
        ValueError: if the shapes do not belong together, or if a whole row or
            column of windows lies outside the map.
    """
    if position.shape != feature.shape:
        raise ValueError(
            f'position has the shape {tuple(position.shape)}, but feature '
            f'{tuple(feature.shape)}: both must be of the same map'
        )
    shape = (feature.size(2), feature.size(3))
    pixels, outside = window_pixels(window_index, window_size, grid, shape)
    value = _gather_pixels(feature, pixels)
    if level_embed is not None:
        value = value + level_embed
    return value, value + _gather_pixels(position, pixels), outside


def _gather_pixels(feature: Tensor, pixels: Tensor) -> Tensor:
    """(B, C, H, W) and (B, N) -> (B, N, C), without a copy of the map."""
    if feature.is_contiguous(memory_format=torch.channels_last):
        tokens = feature.permute(0, 2, 3, 1).flatten(1, 2)
        index = pixels[..., None].expand(-1, -1, tokens.size(2))
        return tokens.gather(1, index)
    planes = feature.flatten(2)
    index = pixels[:, None].expand(-1, planes.size(1), -1)
    return planes.gather(2, index).transpose(1, 2)
