"""Measures time and memory of whole models and of their stages.

Compares FASeg with MMSegmentation's Mask2Former, both with ResNet-50. The
models run alternately. FASeg and the peers are not timed if their scores
differ from the reference implementations, and a training step is not timed if
its loss is not finite. The scores of the baseline are not checked. *relative*
is the time relative to the baseline. *time / floor* is the time relative to
that of a matrix product with as many multiply-adds, or of a copy of the
results if it takes longer; both are timed in the same run::

    python benchmarks/bench_model.py --threads 2 --train --json rows.json
    python benchmarks/bench_model.py --peers huggingface onnxruntime openvino
    python benchmarks/bench_model.py --other my_module:make

``make`` takes our model and returns a function that maps images to scores. The
peers are packages: ``pip install transformers onnxruntime openvino``.
"""

import argparse
import contextlib
import importlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from measure import (
    Row,
    count_work,
    describe,
    extra_memory,
    make_floor,
    medians,
    report,
    resident_memory,
    run_all,
)
from models import (
    BASELINE,
    OURS,
    build_pair,
    faseg_stages,
    hrca_stage,
    make_metas,
    make_samples,
    mask2former_stages,
    reference_scores,
    scores_match,
    training_step,
)
from peers import OTHER_MEMORY, PEERS
from plots import plot_cost
from torch import Tensor, nn

from mmfaseg.ops import describe_backend

SIZES = ['512x512', '640x640', '512x1024', '1024x2048']
TRAIN_BATCH = 2
HRCA = 'HRCA, 3 layers'  # a stage
# reduce-overhead: with CUDA graphs, on GPUs
COMPILE_MODES = ['default', 'reduce-overhead', 'max-autotune']


def parse_args() -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add = parser.add_argument
    add('--sizes', nargs='+', default=SIZES, help='HEIGHTxWIDTH')
    add('--batch', type=int, default=1, help='images at inference')
    add('--classes', type=int, default=150, help='number of classes')
    add('--device', type=torch.device, default=torch.device('cpu'))
    add('--amp', choices=['bfloat16', 'float16'], help='run under autocast')
    add('--threads', type=int, help='number of CPU threads')
    add('--seconds', type=float, default=6.0, help='duration per variant')
    add(
        '--train',
        nargs='?',
        const='512x512',
        metavar='HEIGHTxWIDTH',
        help='also time training, by default at 512x512',
    )
    add('--stages', nargs='+', help='stages to time (default: all)')
    add(
        '--compile',
        nargs='+',
        default=[],
        choices=COMPILE_MODES,
        help='also time our whole model with torch.compile',
    )
    add('--peers', nargs='+', default=[], choices=PEERS, help='packages')
    add('--other', help='module:function that makes another FASeg variant')
    add('--json', help='write the rows to this file')
    add('--plot', help='plot cost against image area to this file')
    return parser.parse_args()


def autocast(args: argparse.Namespace) -> contextlib.AbstractContextManager:
    """Returns the autocast context selected by ``--amp``."""
    if args.amp is None:
        return contextlib.nullcontext()
    return torch.autocast(args.device.type, getattr(torch, args.amp))


@torch.no_grad()
def bench_inference(
    args: argparse.Namespace, models: dict[str, nn.Module], size: str
) -> list[Row]:
    """Measures all stages at one size."""
    shape = [int(x) for x in size.split('x')]
    image = torch.randn(args.batch, 3, *shape, device=args.device)
    ours, baseline = models.values()
    with autocast(args):
        stages = {
            name: cut(model, image)
            for (name, model), cut in zip(
                models.items(), (faseg_stages, mask2former_stages), strict=True
            )
        }
        stages[OURS][HRCA] = hrca_stage(ours, image)
        right = dict.fromkeys(stages, True)
        scores = stages[OURS]['whole']()
        reference = reference_scores(ours, image)
        right[OURS] = scores_match(scores, reference)
        if args.other:
            module, function = args.other.split(':')
            make = getattr(importlib.import_module(module), function)
            run = partial(make(ours), image)
            stages[args.other] = {'whole': run}
            right[args.other] = scores_match(run(), scores)
        for mode in args.compile:
            name = f'{OURS}, compile {mode}'
            run = compile_model(ours, image, mode)
            stages[name] = {'whole': run}
            right[name] = scores_match(run(), scores)
        del scores
        with tempfile.TemporaryDirectory() as folder:
            for peer in args.peers:
                run, expected = PEERS[peer](ours, image, reference, folder)
                stages[peer] = {'whole': run}
                right[peer] = scores_match(run(), expected)
        del reference
        rows = []
        for stage in args.stages or stages[OURS]:
            runs = {k: x[stage] for k, x in stages.items() if stage in x}
            rows += compare(args, stage, size, runs, right, stage != HRCA)
    return rows


def compile_model(
    model: nn.Module, image: Tensor, mode: str
) -> Callable[[], Tensor]:
    """Returns the whole model for one image, compiled when first called."""
    metas = make_metas(image)
    network = torch.compile(
        lambda x: model.encode_decode(x, metas), fullgraph=True, mode=mode
    )
    # CUDA graphs reuse the memory of their results
    return lambda: network(image).clone()


def bench_training(
    args: argparse.Namespace, models: dict[str, nn.Module]
) -> list[Row]:
    """Measures the forward and backward pass of two crops."""
    height, width = (int(x) for x in args.train.split('x'))
    size = (height, width)
    image = torch.randn(TRAIN_BATCH, 3, *size, device=args.device)
    samples = make_samples(TRAIN_BATCH, size, args.classes, args.device)
    runs, right = {}, {}
    with autocast(args):
        for name, model in models.items():
            model.train()
            runs[name] = partial(training_step, model, image, samples)
            right[name] = bool(runs[name]().isfinite())
        return compare(args, 'training step, batch 2', args.train, runs, right)


def compare(
    args: argparse.Namespace,
    stage: str,
    size: str,
    runs: dict[str, Callable[[], Any]],
    right: dict[str, bool],
    memory: bool = True,
) -> list[Row]:
    """Returns one row per variant; the variants run alternately."""
    work = {
        name: count_work(run)
        for name, run in runs.items()
        if name in (OURS, BASELINE)
    }
    floor = make_floor(args.device, getattr(torch, args.amp or 'float32'))
    *times, product, copy = medians(
        [*runs.values(), *floor.probes], args.device, args.seconds
    )
    rows = []
    for (name, run), ms in zip(runs.items(), times, strict=True):
        row = Row(stage, size, name, ms if right[name] else None)
        if right[name] and name in work:
            row.floor = ms / floor.of(work[name], product, copy)
        if right[name] and BASELINE in runs:
            row.relative = ms / times[list(runs).index(BASELINE)]
        if memory and right[name] and name not in OTHER_MEMORY:
            row.extra = extra_memory(partial(_tensors, run), args.device)
            row.rss = resident_memory(run)
        rows.append(row)
    return rows


def _tensors(run: Callable[[], Any]) -> Sequence[Tensor]:
    """Runs a function without results, so that all its memory counts."""
    run()
    return []


def main() -> None:
    """Runs all cases; exits with status 1 if a result is wrong."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    models = build_pair(args.classes, args.device)
    cases: list[Callable[[], list[Row]]] = [
        partial(bench_inference, args, models, size) for size in args.sizes
    ]
    if args.train:
        cases.append(partial(bench_training, args, models))
    title = (
        f'{describe(args.device)}, {args.amp or "float32"}, batch '
        f'{args.batch}, {args.classes} classes, mmfaseg {describe_backend()}'
    )
    rows = run_all(title, cases, args.json)
    if args.plot:
        plot_cost(rows, title, args.plot)
    sys.exit(not report(title, rows))


if __name__ == '__main__':
    main()
