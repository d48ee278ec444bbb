"""Clock, memory, equality gate and tables of the benchmarks."""

import contextlib
import ctypes
import gc
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from mmfaseg.testing import peak_memory

# of the norm of the difference by the norm of what is right
GATES = {
    torch.float64: 1e-9,
    torch.float32: 1e-5,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}
# what a column of the table is called, where there is anything in it
NUMBERS = {
    'relative': 'relative',
    'floor': 'of the copy',
    'lines': 'of its lines',
    'extra': 'extra MiB',
    'rss': 'RSS MiB',
}


@dataclass
class Row:
    """One line of the table.

    Attributes:
        op: what was run.
        size: at which size.
        variant: by which implementation.
        ms: median milliseconds of one run, None if the result was wrong.
        relative: ms by those of the first variant; of whole models, by the
            baseline's.
        floor: ms by the time to move the necessary bytes, if there is one.
        lines: the same with whole lines of memory, if they are more.
        extra: memory taken and not returned as a result, MiB.
        rss: growth of the resident memory of the process at the peak, MiB.
    """

    op: str
    size: str
    variant: str
    ms: float | None
    relative: float | None = None
    floor: float | None = None
    lines: float | None = None
    extra: float | None = None
    rss: float | None = None


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def medians(
    functions: Sequence[Callable[[], Any]],
    device: torch.device,
    seconds: float,
) -> list[float]:
    """Return the median milliseconds of each function, run in turns."""
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + seconds * len(functions)
    while time.perf_counter() < end or len(times[0]) < 5:
        for function, taken in zip(functions, times, strict=True):
            synchronize(device)
            start = time.perf_counter()
            function()
            synchronize(device)
            taken.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(x) for x in times]


def copy_rate(device: torch.device, seconds: float = 1.0) -> float:
    """Return bytes per ms of a large copy, read and written ones counted."""
    source = torch.randn(64 << 20, device=device)
    target = torch.empty_like(source)
    (ms,) = medians([lambda: target.copy_(source)], device, seconds)
    return 2 * source.nbytes / ms


def extra_memory(
    function: Callable[[], Sequence[Tensor]], device: torch.device
) -> float:
    """Return the MiB that are held at the peak, without the results."""
    results = sum(x.nbytes for x in function())
    if device.type == 'cuda':
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        peak = torch.cuda.max_memory_allocated(device) - before
    else:
        peak = peak_memory(function)
    return (peak - results) / 2**20


def resident_memory(function: Callable[[], Any]) -> float | None:
    """Return the MiB by which the process grows at the peak of a call.

    None where the kernel cannot tell.
    """
    status = Path('/proc/self/status')

    def read(field: str) -> int:
        (line,) = re.findall(rf'{field}:\s+(\d+) kB', status.read_text())
        return int(line)

    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak
        before = read('VmRSS')
    except (OSError, ValueError):
        return None
    function()
    return (read('VmHWM') - before) / 1024


def is_close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Return whether all results are right for their type of numbers.

    One number of 100,000 is let off: the slope of a bilinear sample jumps at
    the border of a pixel, and rounding decides on which side a sample lies.
    """
    for one, two in zip(found, expected, strict=True):
        error = (one.double() - two.double()).flatten()
        if not error.isfinite().all():
            return False
        error[error.abs().topk(len(error) // 100_000).indices] = 0
        if error.norm() > GATES[one.dtype] * two.double().norm():
            return False
    return True


def compare(
    op: str,
    size: str,
    variants: dict[str, Callable[[], Sequence[Tensor]]],
    device: torch.device,
    seconds: float,
    bytes_per_ms: float | None = None,
    necessary: int = 0,
    lines: int = 0,
) -> list[Row]:
    """Return a row per variant; what is wrong gets no time.

    Args:
        op: what is run.
        size: at which size.
        variants: the implementations; the first one is compared with the
            others, the last one is what the others have to equal.
        device: where they run.
        seconds: for each variant.
        bytes_per_ms: of a copy.
        necessary: bytes that have to be read and written.
        lines: the same in whole lines of memory.
    """
    expected = [x.clone() for x in list(variants.values())[-1]()]
    right = [is_close(run(), expected) for run in variants.values()]
    times = medians(list(variants.values()), device, seconds)
    rows = []
    for (name, run), ms, ok in zip(
        variants.items(), times, right, strict=True
    ):
        row = Row(op, size, name, ms if ok else None)
        if ok:
            row.relative = ms / times[0]
            row.extra = extra_memory(run, device)
            if bytes_per_ms and necessary:
                row.floor = ms * bytes_per_ms / necessary
            if bytes_per_ms and lines > necessary:
                row.lines = ms * bytes_per_ms / lines
        rows.append(row)
    return rows


def describe(device: torch.device) -> str:
    """Return machine and versions in a line."""
    name = platform.processor() or platform.machine()
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    pages = ''
    if device.type == 'cpu' and os.environ.get('THP_MEM_ALLOC_ENABLE') == '1':
        pages = ', huge pages'
    return (
        f'{name}, torch {torch.__version__}, {torch.get_num_threads()} '
        f'threads{pages}'
    )


def report(title: str, rows: Sequence[Row]) -> bool:
    """Print the table, return whether all was right."""
    table = Table(title=title)
    for column in ('what', 'size', 'by', 'ms'):
        table.add_column(column)
    columns = {
        name: title
        for name, title in NUMBERS.items()
        if any(getattr(row, name) is not None for row in rows)
    }
    for column in columns.values():
        table.add_column(column, justify='right')

    def number(value: float | None, digits: int = 2) -> str:
        return '' if value is None else f'{value:.{digits}f}'

    for row in rows:
        table.add_row(
            row.op,
            row.size,
            row.variant,
            'WRONG' if row.ms is None else number(row.ms, 3),
            *(number(getattr(row, name)) for name in columns),
        )
    Console(width=130).print(table)
    return all(row.ms is not None for row in rows)


def save(title: str, rows: Sequence[Row], file: str | None) -> None:
    """Write the rows as JSON, if there is a file to write to."""
    if file:
        rows_as_dicts = [asdict(row) for row in rows]
        Path(file).write_text(
            json.dumps({'title': title, 'rows': rows_as_dicts}, indent=1)
        )


def run_all(
    title: str, cases: Sequence[Callable[[], list[Row]]], file: str | None
) -> list[Row]:
    """Return the rows of all cases, with a progress bar.

    The file has what is measured so far, if a run is cut off.
    """
    rows: list[Row] = []
    for case in track(cases, 'measuring'):
        rows += case()
        save(title, rows, file)
    return rows
