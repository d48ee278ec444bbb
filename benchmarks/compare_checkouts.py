"""Compares the speed of FASeg in two checkouts, stage by stage.

Two processes per checkout run the same stage one after the other, in random
order. Each round yields a ratio of times, so that slow changes of the machine
cancel out::

    git worktree add ../before COMMIT      # and compile its operators
    python benchmarks/compare_checkouts.py ../before . --threads 2

Prints the median time of each process and the median ratio, *after* divided by
*before*, with a bootstrap interval of 95 %.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

SIZES = [512, 1024]
TRAINING = 'training step, batch 2'
ROUNDS = 6  # at least


def parse_args() -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add = parser.add_argument
    add('before', type=Path, help='checkout')
    add('after', type=Path, help='checkout')
    add('--threads', type=int, default=2, help='number of CPU threads')
    add('--seconds', type=float, default=36.0, help='duration per stage')
    add(
        '--stages',
        nargs=2,
        default=['faseg_stages'] * 2,
        metavar='FUNCTION',
        help='function of benchmarks/models.py that returns the stages, '
        'before and after (default: faseg_stages)',
    )
    return parser.parse_args()


def serve(root: str, stages: str, threads: str) -> None:
    """Runs the stages named on stdin and prints the seconds that each took."""
    results = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # messages of the libraries
    os.chdir(root)
    sys.path[:1] = [root, f'{root}/benchmarks']
    import models
    import torch

    torch.set_num_threads(int(threads))
    device = torch.device('cpu')
    model = next(iter(models.build_pair(150, device).values()))
    runs = {}
    with torch.no_grad():
        for size in SIZES:
            image = torch.randn(1, 3, size, size)
            cut = getattr(models, stages)(model, image)
            runs.update({f'{k} {size}x{size}': x for k, x in cut.items()})
    crops = torch.randn(2, 3, 512, 512)
    samples = models.make_samples(2, (512, 512), 150, device)
    runs[TRAINING] = lambda: models.training_step(model, crops, samples)
    print('|'.join(runs), file=results, flush=True)
    for line in sys.stdin:
        name = line.strip()
        model.train(name == TRAINING)
        start = time.perf_counter()
        with torch.set_grad_enabled(name == TRAINING):
            result = runs[name]()
        print(time.perf_counter() - start, file=results, flush=True)
        del result


class Worker:
    """A process that runs stages of one checkout."""

    def __init__(self, root: Path, stages: str, threads: int) -> None:
        command = [sys.executable, __file__, '--serve', str(root.resolve())]
        self.process = subprocess.Popen(
            [*command, stages, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.names = self.process.stdout.readline().strip().split('|')

    def run(self, name: str) -> float:
        """Returns the duration of a stage in seconds."""
        print(name, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def compare(workers: list[Worker], name: str, seconds: float) -> str:
    """Returns a row of the table.

    Args:
        workers (list[Worker]): before, after, after, before.
        name (str): stage.
        seconds (float): minimum duration.
    """
    generator = random.Random(0)
    times: list[list[float]] = [[] for _ in workers]
    ratios = []
    for worker in workers:  # warm up
        worker.run(name)
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(ratios) < ROUNDS:
        for i in generator.sample(range(4), 4):
            times[i].append(workers[i].run(name))
        a, b, c, d = (x[-1] for x in times)
        ratios.append((b + c) / (a + d) - 1)
    medians = sorted(
        statistics.median(generator.choices(ratios, k=len(ratios)))
        for _ in range(2000)
    )
    ms = ' | '.join(
        f'{1e3 * statistics.median(times[i]):.0f}' for i in (0, 3, 1, 2)
    )
    low, middle, high = (
        f'{100 * x:+.1f}'
        for x in (medians[50], statistics.median(ratios), medians[-51])
    )
    return f'| {name} | {ms} | {middle} % [{low}, {high}] | {len(ratios)} |'


def main() -> None:
    """Prints one row per stage."""
    args = parse_args()
    roots = list(zip((args.before, args.after), args.stages, strict=True))
    workers = [
        Worker(*roots[i], args.threads)
        for i in (0, 1, 1, 0)  # balances the order in which they start
    ]
    print('| stage | before, ms | | after, ms | | difference | rounds |')
    print('|---|---|---|---|---|---|---|')
    for name in workers[0].names:
        print(compare(workers, name, args.seconds), flush=True)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--serve']:
        serve(*sys.argv[2:])
    else:
        main()
