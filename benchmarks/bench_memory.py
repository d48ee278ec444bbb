"""Measures the resident memory of inference on large images.

    python benchmarks/bench_memory.py --threads 2

FASeg R50 has random weights, and each case runs in its own process. The memory
of the loaded model is excluded. *scores*: class scores of every pixel, as in
mmseg. *labels*: with ``test_cfg.return_logits=False``.
"""

import argparse
import subprocess
import sys

import torch
from measure import describe, resident_memory
from mmseg.structures import SegDataSample
from models import build, make_metas
from rich.console import Console
from rich.table import Table

WINDOW, STRIDE = (1024, 1024), (768, 768)
CASES = [  # size, mode, number of classes, return_logits
    ('1024x2048', 'whole', 19, True),
    ('1024x2048', 'whole', 19, False),
    ('1024x2048', 'whole', 150, True),
    ('1024x2048', 'whole', 150, False),
    ('2048x2048', 'slide', 19, False),
    ('4096x4096', 'slide', 19, False),
    ('4096x4096', 'slide', 150, False),
]


@torch.no_grad()
def measure(size: str, mode: str, classes: int, logits: bool) -> float | None:
    """Returns the growth of this process in MiB."""
    model = build('faseg_r50', classes)
    model.test_cfg.update(
        mode=mode, return_logits=logits, crop_size=WINDOW, stride=STRIDE
    )
    height, width = (int(x) for x in size.split('x'))
    model.predict(torch.randn(1, 3, 64, 64))  # warm-up
    image = torch.randn(1, 3, height, width)
    samples = [SegDataSample(metainfo=x) for x in make_metas(image)]
    return resident_memory(lambda: model.predict(image, samples))


def main() -> None:
    """Runs each case in a new process and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--threads', type=int, help='number of threads')
    parser.add_argument('--case', type=int, help='run only this case')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.case is not None:
        sys.stdout.write(f'{measure(*CASES[args.case])}\n')
        return
    table = Table(title=describe(torch.device('cpu')))
    for column in ('size', 'mode', 'classes', 'result', 'RSS MiB'):
        table.add_column(column)
    for number, (size, mode, classes, logits) in enumerate(CASES):
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], '--case', str(number)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        mib = float(done.stdout.split()[-1])
        kind = 'scores' if logits else 'labels'
        table.add_row(size, mode, str(classes), kind, f'{mib:.0f}')
    Console(width=100).print(table)


if __name__ == '__main__':
    main()
