"""Compares the operators with the PyTorch reference, mmcv and a copy.

    python benchmarks/bench_ops.py --threads 2 --json ops.json

Variants run alternately; the table shows medians. A variant whose result
differs from the reference is not timed, and the script exits with status 1.
*time / floor* is the time relative to a large copy of the bytes that are read
and written. *rel. to lines* counts whole cache lines of 64 bytes instead, of
which a window of a planar map uses only a part.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from measure import Row, compare, copy_rate, describe, report, run_all
from torch import Tensor

from mmfaseg.models.layers import (
    DecoderState,
    FeatureLevel,
    HighResolutionCrossAttention,
)
from mmfaseg.ops import (
    describe_backend,
    hrca_gather,
    mmcv_has_cuda_ops,
    ms_deform_attn,
    use_backend,
)
from mmfaseg.ops.reference import window_pixels

SIZES = {
    '512x512 B=1': (1, 512, 512),
    '512x512 B=8': (8, 512, 512),
    '640x640 B=1': (1, 640, 640),
    '1024x2048 B=1': (1, 1024, 2048),
}
CHANNELS, HEADS, POINTS, QUERIES, OMEGA = 256, 8, 4, 100, 32
LINE = 64  # bytes


def parse_args() -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--device', type=torch.device, default='cpu')
    parser.add_argument('--threads', type=int, help='number of CPU threads')
    parser.add_argument(
        '--dtype',
        default='float32',
        choices=['float32', 'float16', 'bfloat16', 'float64'],
    )
    parser.add_argument('--sizes', nargs='+', choices=SIZES, default=SIZES)
    parser.add_argument(
        '--seconds', type=float, default=2.0, help='duration per variant'
    )
    parser.add_argument(
        '--json', metavar='FILE', help='write the rows to a file'
    )
    return parser.parse_args()


def run_reference(
    function: Callable[..., Sequence[Tensor]], *arguments: object
) -> Sequence[Tensor]:
    """Returns the results of the PyTorch reference."""
    with use_backend('reference'):
        return function(*arguments)


def bench_deform(
    args: argparse.Namespace, rate: float, size: str, train: bool
) -> list[Row]:
    """Compares deformable attention at the sizes of the pixel decoder."""
    # can be imported only after mmfaseg
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )

    batch, height, width = SIZES[size]
    dtype = getattr(torch, args.dtype)
    sums = torch.promote_types(dtype, torch.float32)
    make = partial(torch.randn, device=args.device)
    shapes = [(height // s, width // s) for s in (32, 16, 8)]
    tokens = sum(h * w for h, w in shapes)
    value = make(batch, tokens, HEADS, CHANNELS // HEADS).to(dtype)
    samples = (HEADS, len(shapes), POINTS)
    extent = torch.tensor([[w, h] for h, w in shapes], device=args.device)
    locations = _centers(shapes, args.device)[:, None, None, None] + (
        3 * make(batch, tokens, *samples, 2) / extent[:, None]
    )
    per_head = len(shapes) * POINTS
    weights = make(batch, tokens, HEADS, per_head).softmax(-1)
    inputs = [
        x.to(kind).requires_grad_(train)
        for x, kind in (
            (value, dtype),
            (locations, sums),
            (weights.unflatten(-1, samples[1:]), sums),
        )
    ]
    grad = make(batch, tokens, CHANNELS).to(dtype)

    def run(attend: Callable[..., Tensor]) -> Sequence[Tensor]:
        output = attend(*inputs)
        if not train:
            return [output]
        return [output.detach(), *torch.autograd.grad(output, inputs, grad)]

    def ours(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ms_deform_attn(value, shapes, locations, weights)

    extents = torch.tensor(shapes)

    def mmcv(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return multi_scale_deformable_attn_pytorch(
            value.to(sums), extents, locations, weights
        ).to(dtype)

    on_device = extents.to(args.device)
    starts = on_device.prod(1).cumsum(0) - on_device.prod(1)

    def mmcv_kernel(
        value: Tensor, locations: Tensor, weights: Tensor
    ) -> Tensor:
        return MultiScaleDeformableAttnFunction.apply(
            value.to(sums), on_device, starts, locations, weights, batch
        ).to(dtype)

    variants = {
        'mmfaseg': partial(run, ours),
        'grid_sample, mmcv': partial(run, mmcv),
        'PyTorch reference': partial(run_reference, run, ours),
    }
    if args.device.type == 'cuda' and mmcv_has_cuda_ops():
        kernel = {'mmcv kernel': partial(run, mmcv_kernel)}
        variants = {**kernel, **variants}
    tensors = [*inputs, grad] + ([*inputs] if train else [])
    return compare(
        'ms_deform_attn' + (' + backward' if train else ''),
        size,
        variants,
        args.device,
        args.seconds,
        rate,
        sum(x.nbytes for x in tensors),
    )


def _centers(
    shapes: Sequence[tuple[int, int]], device: torch.device
) -> Tensor:
    """Returns (x, y) of all pixel centers, shape (S, 2)."""
    grids = [
        torch.meshgrid(
            (torch.arange(w, device=device) + 0.5) / w,
            (torch.arange(h, device=device) + 0.5) / h,
            indexing='xy',
        )
        for h, w in shapes
    ]
    return torch.cat([torch.stack(x, -1).flatten(0, 1) for x in grids])


def _maps(
    args: argparse.Namespace, size: str, channels_last: bool
) -> tuple[list[Tensor], tuple[int, int], Tensor]:
    """Returns feature and position, the grid and random windows."""
    batch, height, width = SIZES[size]
    shape = (batch, CHANNELS, height // 4, width // 4)
    maps = [
        torch.randn(shape, device=args.device).to(
            getattr(torch, args.dtype),
            memory_format=torch.channels_last
            if channels_last
            else torch.contiguous_format,
        )
        for _ in range(2)
    ]
    grid = (height // 32, width // 32)
    cells = grid[0] * grid[1]
    windows = [torch.randperm(cells)[: cells // OMEGA] for _ in range(batch)]
    return maps, grid, torch.stack(windows).to(args.device)


def bench_gather(
    args: argparse.Namespace, rate: float, size: str, channels_last: bool
) -> list[Row]:
    """Compares hrca_gather with permuting the whole map first."""
    maps, grid, index = _maps(args, size, channels_last)
    embed = torch.randn(CHANNELS, device=args.device)
    shape = maps[0].shape[2:]

    def ours() -> Sequence[Tensor]:
        return hrca_gather(*maps, index, 8, grid, embed)[:2]

    def permute() -> Sequence[Tensor]:
        pixels, _ = window_pixels(index, 8, grid, tuple(shape))
        pixels = pixels[..., None].expand(-1, -1, CHANNELS)
        feature, position = (
            x.permute(0, 2, 3, 1).flatten(1, 2).contiguous() for x in maps
        )
        value = feature.gather(1, pixels) + embed.to(feature.dtype)
        return value, value + position.gather(1, pixels)

    results = ours()
    written = sum(x.nbytes for x in results)
    read = written
    if not channels_last:  # distinct cache lines of all window rows
        per_line = LINE // maps[0].element_size()
        pixels, _ = window_pixels(index, 8, grid, tuple(shape))
        read = sum(
            2 * CHANNELS * LINE * len(torch.unique(x // per_line))
            for x in pixels
        )
    name = 'hrca_gather, ' + ('channels-last' if channels_last else 'planar')
    variants = {
        'mmfaseg': ours,
        'permute, then gather': permute,
        'PyTorch reference': partial(run_reference, ours),
    }
    counts = (rate, 2 * written, written + read)
    settings = (args.device, args.seconds)
    rows = compare(name, size, variants, *settings, *counts)
    # the other variants evict the maps from the cache
    alone = {'mmfaseg, warm cache': ours}
    return rows + compare(name, size, alone, *settings, *counts)


@torch.no_grad()
def bench_layer(args: argparse.Namespace, size: str) -> list[Row]:
    """Compares HRCA with attention to the whole stride-4 map.

    The results differ, so each variant is its own reference. The tests compare
    HRCA on all windows with dense attention.
    """
    dtype = getattr(torch, args.dtype)
    maps, grid, _ = _maps(args, size, False)
    module = HighResolutionCrossAttention(CHANNELS, HEADS, OMEGA)
    module = module.to(args.device, dtype).eval()
    batch = maps[0].size(0)
    make = partial(torch.randn, device=args.device, dtype=dtype)
    feature, position = maps
    level = FeatureLevel(
        3, feature, position, make(CHANNELS), feature, tuple(grid)
    )
    query, query_pos = make(2, batch, QUERIES, CHANNELS)
    attention = make(batch, QUERIES, *grid)
    state = DecoderState(query_pos, query_pos, query_pos, attention)

    def windows() -> Sequence[Tensor]:
        return [module(query, state, level)[0]]

    def dense() -> Sequence[Tensor]:
        value = feature.flatten(2).transpose(1, 2) + level.level_embed
        key = value + position.flatten(2).transpose(1, 2)
        return [module.attn(query + query_pos, key, value)[0]]

    rows = []
    for name, run in (('mmfaseg', windows), ('dense', dense)):
        rows += compare(
            'HRCA layer', size, {name: run}, args.device, args.seconds
        )
    if rows[0].ms and rows[1].ms:
        rows[1].relative = rows[1].ms / rows[0].ms
    return rows


def main() -> None:
    """Runs all cases; exits with status 1 if a result is wrong."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rate = copy_rate(args.device)
    cases: list[Callable[[], list[Row]]] = []
    for size in args.sizes:
        cases += [
            partial(bench_deform, args, rate, size, train)
            for train in (False, True)
        ]
        cases += [
            partial(bench_gather, args, rate, size, layout)
            for layout in (False, True)
        ]
        cases.append(partial(bench_layer, args, size))
    title = (
        f'{describe(args.device)}, {args.dtype}, copy {rate / 1e6:.1f} GB/s, '
        f'mmfaseg {describe_backend()}'
    )
    sys.exit(not report(title, run_all(title, cases, args.json)))


if __name__ == '__main__':
    main()
