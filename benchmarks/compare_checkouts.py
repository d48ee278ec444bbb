"""Compares the speed of FASeg in two checkouts, stage by stage.

Two processes with the same code may differ by more than a third in a stage,
probably because of their memory layout. So this script starts several pairs of
processes, one per checkout, that run each stage alternately. The median times
of the two processes of a pair yield one ratio::

    git worktree add ../before COMMIT      # and compile its operators
    python benchmarks/compare_checkouts.py ../before . --threads 2

Prints the median time over the processes of each checkout and the median
ratio, *after* divided by *before*, with a bootstrap interval of 95 % over the
pairs.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.progress import track

SIZES = [512, 1024]
HRCA = 'HRCA, 3 layers'
TRAINING = 'training step, batch 2'
SHORT = 0.3  # seconds; shorter stages run more often


def parse_args() -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add = parser.add_argument
    add('before', type=Path, help='checkout')
    add('after', type=Path, help='checkout')
    add('--threads', type=int, default=2, help='number of CPU threads')
    add('--pairs', type=int, default=8, help='number of pairs of processes')
    add('--rounds', type=int, default=3, help='runs of a stage per process')
    add(
        '--stages',
        nargs=2,
        default=['faseg_stages'] * 2,
        metavar='FUNCTION',
        help='function of benchmarks/models.py that returns the stages, '
        'before and after (default: faseg_stages); both files also need '
        'hrca_stage',
    )
    add('--json', type=Path, help='write the times to this file')
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
            cut[HRCA] = models.hrca_stage(model, image)
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
        self.names = self._read().split('|')

    def run(self, name: str) -> float:
        """Returns the duration of a stage in seconds."""
        print(name, file=self.process.stdin, flush=True)
        return float(self._read())

    def _read(self) -> str:
        """Returns the next line that the process prints.

        Raises:
            RuntimeError: if the process has ended.
        """
        if line := self.process.stdout.readline().strip():
            return line
        raise RuntimeError(f'{" ".join(self.process.args)} failed')

    def stop(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def time_pair(
    workers: dict[int, Worker], rounds: int, generator: random.Random
) -> dict[str, list[float]]:
    """Returns the median seconds of each stage, before and after.

    Args:
        workers (dict[int, Worker]): 0 is before, 1 is after.
        rounds (int): number of runs of a stage; three times as many if it is
            short.
        generator (random.Random): determines the order within a round.

    Raises:
        ValueError: if the checkouts have no stage in common.
    """
    before, after = (x.names for x in workers.values())
    if skipped := sorted(set(before) ^ set(after)):
        print('not in both checkouts:', ', '.join(skipped), file=sys.stderr)
    common = [x for x in before if x in after]
    if not common:
        raise ValueError(f'no stage in common: {before} before, {after} after')
    medians = {}
    for name in common:
        first = max([x.run(name) for x in workers.values()])  # warm-up
        times: list[list[float]] = [[], []]
        for _ in range(rounds if first > SHORT else 3 * rounds):
            for i in generator.sample(range(2), 2):
                times[i].append(workers[i].run(name))
        medians[name] = [statistics.median(x) for x in times]
    return medians


def describe(
    name: str, pairs: list[list[float]], generator: random.Random
) -> str:
    """Returns a row of the table.

    Args:
        name (str): stage.
        pairs (list[list[float]]): seconds before and after, of each pair.
        generator (random.Random): source of the bootstrap samples.
    """
    ratios = [after / before - 1 for before, after in pairs]
    medians = sorted(
        statistics.median(generator.choices(ratios, k=len(ratios)))
        for _ in range(2000)
    )
    ms = ' | '.join(
        f'{1e3 * statistics.median(x):.1f}' for x in zip(*pairs, strict=True)
    )
    low, middle, high = (
        f'{100 * x:+.1f}'
        for x in (medians[50], statistics.median(ratios), medians[-51])
    )
    return f'| {name} | {ms} | {middle} [{low}, {high}] |'


def main() -> None:
    """Prints one row per stage."""
    args = parse_args()
    generator = random.Random(0)
    roots = list(zip((args.before, args.after), args.stages, strict=True))
    pairs: dict[str, list[list[float]]] = {}
    for _ in track(range(args.pairs), 'measuring'):
        workers = {
            i: Worker(*roots[i], args.threads)
            for i in generator.sample(range(2), 2)
        }
        for name, times in time_pair(workers, args.rounds, generator).items():
            pairs.setdefault(name, []).append(times)
        for worker in workers.values():
            worker.stop()
        if args.json:
            args.json.write_text(json.dumps(pairs, indent=1))
    print('| stage | before, ms | after, ms | difference, % [95 % interval] |')
    print('|---|---|---|---|')
    for name, times in pairs.items():
        print(describe(name, times, generator))


if __name__ == '__main__':
    if sys.argv[1:2] == ['--serve']:
        serve(*sys.argv[2:])
    else:
        main()
