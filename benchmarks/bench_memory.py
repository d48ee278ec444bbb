"""Measures the resident memory of inference and training on large images.

    python benchmarks/bench_memory.py --threads 2
    python benchmarks/bench_memory.py --threads 2 --largest 24

FASeg R50 has random weights, and each case runs in its own process. The memory
of the loaded model is excluded. *scores*: class scores of every pixel, as in
mmseg. *labels*: with ``test_cfg.return_logits=False``. *training*: forward and
backward pass of one image, without the optimizer. With ``--largest``, a line
through two sizes predicts the largest image that fits.
"""

import argparse
import math
import subprocess
import sys
from itertools import combinations
from typing import NamedTuple

import torch
from measure import describe, read_status, resident_memory
from mmseg.structures import SegDataSample
from models import build, make_metas, make_samples, training_step
from rich.console import Console
from rich.table import Table

WINDOW, STRIDE = (1024, 1024), (768, 768)


class Case(NamedTuple):
    """One measurement."""

    size: str
    mode: str
    classes: int
    result: str


CASES = [
    Case('1024x2048', 'whole', 19, 'scores'),
    Case('1024x2048', 'whole', 19, 'labels'),
    Case('1024x2048', 'whole', 150, 'scores'),
    Case('1024x2048', 'whole', 150, 'labels'),
    Case('2048x2048', 'slide', 19, 'labels'),
    Case('4096x4096', 'slide', 19, 'labels'),
    Case('4096x4096', 'slide', 150, 'labels'),
    Case('512x512', 'training', 19, 'loss'),
    Case('1024x1024', 'training', 19, 'loss'),
    Case('512x512', 'training, checkpointing', 19, 'loss'),
    Case('1024x1024', 'training, checkpointing', 19, 'loss'),
    Case('2048x2048', 'whole', 19, 'labels'),
]
# pairs of cases that differ in the size only
LARGEST = [(x, y) for x, y in combinations(CASES, 2) if x[1:] == y[1:]]


def measure(case: Case) -> float | None:
    """Returns the growth of this process in MiB."""
    size = tuple(int(x) for x in case.size.split('x'))
    model = build('faseg_r50', case.classes)
    image = torch.randn(1, 3, *size)
    if case.result == 'loss':
        model.train()
        if 'checkpointing' in case.mode:
            enable_checkpointing(model)
        samples = make_samples(1, size, case.classes, image.device)
        return resident_memory(lambda: training_step(model, image, samples))
    model.test_cfg.update(
        mode=case.mode,
        return_logits=case.result == 'scores',
        crop_size=WINDOW,
        stride=STRIDE,
    )
    samples = [SegDataSample(metainfo=x) for x in make_metas(image)]
    with torch.no_grad():
        model.predict(torch.randn(1, 3, 64, 64))  # warm-up
        return resident_memory(lambda: model.predict(image, samples))


def enable_checkpointing(model: torch.nn.Module) -> None:
    """Sets ``with_cp`` in all modules that have it."""
    for module in model.modules():
        if hasattr(module, 'with_cp'):
            module.with_cp = True


def run(case: Case, threads: int | None) -> float:
    """Measures a case in a new process."""
    command = [sys.executable, __file__, '--case', str(CASES.index(case))]
    if threads:
        command += ['--threads', str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:  # it has printed the reason
        sys.exit(done.returncode)
    return float(done.stdout.split()[-1])


def megapixels(case: Case) -> float:
    """Returns the area of the image."""
    return math.prod(int(x) for x in case.size.split('x')) / 1e6


def largest(pair: tuple[Case, Case], mib: list[float], budget: float) -> float:
    """Returns the predicted megapixels of an image that needs ``budget`` MiB.

    Memory is assumed to be linear in the area.
    """
    one, two = (megapixels(case) for case in pair)
    slope = (mib[1] - mib[0]) / (two - one)
    return two + (budget - mib[1]) / slope


def main() -> None:
    """Runs each case in a new process and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add = parser.add_argument
    add('--threads', type=int, help='number of threads')
    add('--case', type=int, help='run only this case')
    add(
        '--largest',
        type=float,
        metavar='GIB',
        help='memory in GiB for which to predict the largest image',
    )
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.case is not None:
        mib = measure(CASES[args.case])
        if mib is None:
            sys.exit('error: the kernel does not report the peak memory')
        sys.stdout.write(f'{mib}\n')
        return
    cases = [x for pair in LARGEST for x in pair] if args.largest else CASES
    table = Table(title=describe(torch.device('cpu')))
    for column in (*Case._fields, 'RSS MiB'):
        table.add_column(column)
    mib = {}
    for case in cases:
        mib[case] = run(case, args.threads)
        table.add_row(*map(str, case), f'{mib[case]:.0f}')
    Console(width=100).print(table)
    if args.largest:
        loaded = resident_mib()
        for pair in LARGEST:
            area = largest(
                pair, [mib[x] for x in pair], 1024 * args.largest - loaded
            )
            side = math.isqrt(int(1e6 * area)) // 32 * 32
            sys.stdout.write(
                f'{pair[0].mode}, {pair[0].result}: {side}x{side}, '
                f'{area:.0f} megapixels\n'
            )


def resident_mib() -> float:
    """Returns the resident memory of this process with a loaded model."""
    model = build('faseg_r50', 19)
    mib = read_status('VmRSS') / 1024
    del model
    return mib


if __name__ == '__main__':
    main()
