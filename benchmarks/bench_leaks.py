"""Measures memory growth over thousands of iterations with varying sizes.

    python benchmarks/bench_leaks.py --plot benchmarks/plots/leaks.png

The script runs training and inference and reads the resident memory of the
process. Before each reading, the C allocator releases its free memory, because
varying sizes fragment its pools without a leak; --keep-free skips this step.
Growth compares the mean of the last tenth of the readings with that of the
tenth after the warm-up, the first fifth of the run. Sizes repeat in random
order, so that caches per size are filled during the warm-up.
"""

import argparse
import ctypes
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from rich.progress import track

import mmfaseg  # noqa: F401
from mmfaseg.datasets.shapes_generator import generate_shapes
from mmfaseg.visualization.decoder_trace import trace_head

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
SIDES = range(64, 161, 8)  # 169 image sizes
EVERY = 10  # iterations between readings
MOST = 0.02  # maximum growth


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--iterations', type=int, default=2000)
    parser.add_argument(
        '--keep-free', action='store_true', help='do not release free memory'
    )
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', type=Path, help='file for the readings')
    parser.add_argument('--plot', type=Path, help='file for the plot')
    return parser.parse_args(argv)


def resident(keep_free: bool) -> float:
    """Returns the resident memory of this process in MiB."""
    if not keep_free:
        ctypes.CDLL('libc.so.6').malloc_trim(0)
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * 4096 / 2**20


def make_model() -> torch.nn.Module:
    """Returns the network of the demo, with random weights."""
    MMLogger.get_instance('leaks', log_level='WARNING')
    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def make_batch(chance: random.Random) -> tuple[torch.Tensor, list]:
    """Returns two images of the same random size, with labels."""
    size = chance.choice(SIDES), chance.choice(SIDES)
    inputs, samples = [], []
    for _ in range(2):
        image, labels = generate_shapes(chance.randrange(200), 'train', size)
        inputs.append(torch.from_numpy(image).permute(2, 0, 1) / 128.0 - 1)
        meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
        sample = SegDataSample(metainfo=meta)
        data = torch.from_numpy(labels)[None].long()
        sample.gt_sem_seg = PixelData(data=data)
        samples.append(sample)
    return torch.stack(inputs), samples


def train_step(model: torch.nn.Module) -> Callable[[tuple], None]:
    """Returns a function that trains on a batch."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step(batch: tuple) -> None:
        losses, _ = model.parse_losses(model.loss(*batch))
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()

    model.train()
    return step


def infer_step(model: torch.nn.Module) -> Callable[[tuple], None]:
    """Returns a function that predicts and traces a batch."""

    @torch.no_grad()
    def step(batch: tuple) -> None:
        model.predict(*batch)
        trace_head(model.decode_head, model.extract_feat(batch[0]))

    model.eval()
    return step


def watch(
    name: str,
    step: Callable[[tuple], None],
    iterations: int,
    keep_free: bool,
) -> list[float]:
    """Returns the readings during repeated steps."""
    chance, readings = random.Random(0), []
    for n in track(range(iterations), name):
        step(make_batch(chance))
        if n % EVERY == 0:
            readings.append(resident(keep_free))
    return readings


def growth(readings: list[float]) -> float:
    """Returns the relative memory growth after the warm-up."""
    count = len(readings)
    start = np.mean(readings[count // 5 : count // 5 + count // 10])
    return float(np.mean(readings[-(count // 10) :]) / start - 1)


def plot(found: dict[str, list[float]], path: Path) -> None:
    """Plots the readings."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, readings in found.items():
        axes.plot(np.arange(len(readings)) * EVERY, readings, label=name)
    axes.set(xlabel='iterations', ylabel='resident memory, MiB', ylim=0)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark; exits with status 1 if memory grows."""
    args = parse_args(argv)
    if args.iterations < 20 * EVERY:
        raise ValueError(f'--iterations must be at least {20 * EVERY}')
    torch.set_num_threads(args.threads)
    found = {}
    for name, make in (('training', train_step), ('inference', infer_step)):
        step = make(make_model())
        found[name] = watch(name, step, args.iterations, args.keep_free)
    grown = {name: growth(readings) for name, readings in found.items()}
    for name, share in grown.items():
        sys.stdout.write(
            f'{name}: {args.iterations} iterations, '
            f'{found[name][-1]:.0f} MiB, {100 * share:+.2f} % after the '
            'warm-up\n'
        )
    if args.json is not None:
        args.json.write_text(json.dumps(found) + '\n')
    if args.plot is not None:
        plot(found, args.plot)
    sys.exit(int(max(grown.values()) > MOST))


if __name__ == '__main__':
    main()
