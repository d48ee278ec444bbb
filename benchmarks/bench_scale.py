"""Measures how the cost of inference grows with each dimension of the input.

    python benchmarks/bench_scale.py --threads 2 --plot scale.png

FASeg R50 has random weights. Each sweep changes one of batch size, image area,
number of classes and number of queries. The exponent is the slope of the
logarithm of the cost, fitted by least squares: 1 means proportional.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from functools import partial

import torch
from measure import Row, describe, medians, report, run_all
from models import OURS, build, make_metas
from plots import plot_scale

from mmfaseg.testing import peak_memory

SWEEPS = {
    'batch size': (1, 2, 4, 8, 16),
    'megapixels': (0.25, 0.5, 1, 2, 4, 8),
    'classes': (19, 150, 400, 1000),
    'queries': (100, 200, 300, 400),
}
# all other dimensions of a sweep
DEFAULTS = {
    'batch size': 1,
    'megapixels': 0.25,
    'classes': 19,
    'queries': 100,
}


def parse_args() -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add = parser.add_argument
    add('--sweeps', nargs='+', default=list(SWEEPS), choices=SWEEPS)
    add('--device', type=torch.device, default=torch.device('cpu'))
    add('--threads', type=int, help='number of CPU threads')
    add('--json', help='write the rows to this file')
    add('--plot', help='plot time and memory to this file')
    return parser.parse_args()


def image_size(megapixels: float) -> tuple[int, int]:
    """Returns height and width, multiples of 32, of 2**20 pixels each.

    The width is the height or twice as large.
    """
    side = 1024 * math.sqrt(megapixels)
    if side % 32:
        height = round(side / math.sqrt(2))
        return height, 2 * height
    return int(side), int(side)


@torch.no_grad()
def measure(sweep: str, value: float, device: torch.device) -> list[Row]:
    """Returns time and peak memory, with the scores, for one value."""
    case = {**DEFAULTS, sweep: value}
    head = dict(num_queries=case['queries'])
    model = build('faseg_r50', case['classes'], head).to(device)
    shape = (case['batch size'], 3, *image_size(case['megapixels']))
    image = torch.randn(shape, device=device)
    run = partial(model.encode_decode, image, make_metas(image))
    (ms,) = medians([run], device, 0, rounds=3)
    row = Row(sweep, f'{value:g}', OURS, ms)
    if device.type == 'cpu':
        row.extra = peak_memory(run) / 2**20
    return [row]


def exponent(values: Sequence[float], costs: Sequence[float]) -> float:
    """Returns the slope of log(cost) against log(value)."""
    logs = [[math.log(x) for x in y] for y in (values, costs)]
    return statistics.linear_regression(*logs).slope


def main() -> None:
    """Runs all sweeps and prints the rows and their exponents."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    cases = [
        partial(measure, sweep, value, args.device)
        for sweep in args.sweeps
        for value in SWEEPS[sweep]
    ]
    title = f'{describe(args.device)}, float32, FASeg R50'
    rows = run_all(title, cases, args.json)
    report(title, rows)
    exponents = {}
    for sweep in args.sweeps:
        mine = [row for row in rows if row.op == sweep]
        values = [float(row.size) for row in mine]
        exponents[sweep] = exponent(values, [row.ms for row in mine])
        sys.stdout.write(f'exponent of {sweep}: {exponents[sweep]:.2f}\n')
    if args.plot:
        plot_scale(rows, exponents, title, args.plot)


if __name__ == '__main__':
    main()
