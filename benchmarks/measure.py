"""Timing, memory measurement, result checks and tables of the benchmarks."""

import contextlib
import ctypes
import functools
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
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mmfaseg.testing import peak_memory

os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # no messages of the profiler
# maximum norm of the difference relative to the norm of the reference
GATES = {
    torch.float64: 1e-9,
    torch.float32: 1e-5,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}
# titles of the columns that are shown if they contain values
NUMBERS = {
    'relative': 'relative',
    'floor': 'time / floor',
    'lines': 'rel. to lines',
    'extra': 'extra MiB',
    'rss': 'RSS MiB',
}


@dataclass
class Row:
    """One line of the table.

    Attributes:
        op: Operator or stage.
        size: Image size.
        variant: Implementation.
        ms: Median milliseconds of one run; None if the result is wrong.
        relative: Time relative to the first variant, or to the baseline for
            whole models.
        floor: Time relative to the floor: a copy of the necessary bytes or,
            for whole models, the multiply-adds at the rate of a matrix
            product, if these take longer.
        lines: The same for whole cache lines, if these are more bytes.
        extra: Peak memory, MiB; for operators, results are not counted.
        rss: Growth of the resident memory of the process at the peak, MiB.
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


class Work(NamedTuple):
    """Multiply-adds and bytes of a computation."""

    multiply_adds: int
    num_bytes: int


def synchronize(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def medians(
    functions: Sequence[Callable[[], Any]],
    device: torch.device,
    seconds: float,
    rounds: int = 5,
) -> list[float]:
    """Returns the median milliseconds of functions that run alternately.

    Each function runs once for warm-up, and then at least ``rounds`` times and
    for ``seconds`` on average.
    """
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + seconds * len(functions)
    while time.perf_counter() < end or len(times[0]) < rounds:
        for function, taken in zip(functions, times, strict=True):
            synchronize(device)
            start = time.perf_counter()
            function()
            synchronize(device)
            taken.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(x) for x in times]


class Floor:
    """Smallest time of a computation on this machine.

    Its two probes are a matrix product and a copy. They are timed together
    with the computation, because the speed of a shared machine varies.

    Args:
        device: Device of the computation.
        dtype: Data type of the matrix product.
    """

    SIDE = 2048  # 16 MiB per float32 matrix

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        one, two = torch.randn(2, self.SIDE, self.SIDE, device=device)
        one, two, out = one.to(dtype), two.to(dtype), two.to(dtype).clone()
        copy, self.copied = _make_copy(device)
        self.probes = [lambda: torch.mm(one, two, out=out), copy]

    def of(self, work: Work, product_ms: float, copy_ms: float) -> float:
        """Returns the milliseconds of some work.

        Args:
            work: Multiply-adds and bytes.
            product_ms: Time of the first probe.
            copy_ms: Time of the second probe.
        """
        compute = work.multiply_adds / self.SIDE**3 * product_ms
        return max(compute, work.num_bytes / self.copied * copy_ms)


@functools.cache  # its tensors are large
def make_floor(device: torch.device, dtype: torch.dtype) -> Floor:
    """Returns the floor of a device and data type."""
    return Floor(device, dtype)


aten = torch.ops.aten
CPU_ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu
# PyTorch's formulas, and the attention on CPUs, which it does not count
FORMULAS = {
    **flop_registry,
    CPU_ATTENTION: flop_registry[aten._scaled_dot_product_flash_attention],
}


class _MultiplyAdds(TorchDispatchMode):
    """Counts multiply-adds.

    ``FlopCounterMode`` also tracks modules, which fails for parameters that
    are used without a graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Runs an operator and adds its multiply-adds."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count = FORMULAS.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=result) // 2
        return result


def count_work(function: Callable[[], Any]) -> Work:
    """Runs a function and counts the work that it cannot avoid.

    These are the multiply-adds of matrix products and convolutions, and the
    bytes of the results, which must be written.
    """
    with _MultiplyAdds() as counter:
        results = tree_leaves(function())
    tensors = [x for x in results if isinstance(x, Tensor)]
    return Work(counter.total, sum(x.nbytes for x in tensors))


def copy_rate(device: torch.device, seconds: float = 1.0) -> float:
    """Returns the bytes per ms of a large copy, read plus written."""
    copy, num_bytes = _make_copy(device)
    (ms,) = medians([copy], device, seconds)
    return num_bytes / ms


def _make_copy(device: torch.device) -> tuple[Callable[[], Tensor], int]:
    """Returns a large copy, and the bytes that it reads and writes."""
    source = torch.randn(64 << 20, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * source.nbytes


def extra_memory(
    function: Callable[[], Sequence[Tensor]], device: torch.device
) -> float:
    """Returns the peak memory in MiB, without the results."""
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


def read_status(field: str) -> int:
    """Returns a field of the status of this process in KiB, as VmRSS."""
    status = Path('/proc/self/status').read_text()
    (value,) = re.findall(rf'{field}:\s+(\d+) kB', status)
    return int(value)


def resident_memory(function: Callable[[], Any]) -> float | None:
    """Returns the growth of the process at the peak of a call, in MiB.

    Returns None if the kernel does not report it.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak
        before = read_status('VmRSS')
    except (OSError, ValueError):
        return None
    function()
    return (read_status('VmHWM') - before) / 1024


def is_close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Returns whether all results match within the tolerance of their dtype.

    One value in 100,000 is ignored: gradients of bilinear samples jump at
    pixel borders, and rounding decides on which side a sample lies.
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
    """Returns one row per variant, without a time if its result is wrong.

    Args:
        op: Operator.
        size: Image size.
        variants: Implementations; times are relative to the first one, and
            results are compared with the last one.
        device: Device of the inputs.
        seconds: Duration per variant.
        bytes_per_ms: Rate of a copy.
        necessary: Bytes that must be read and written.
        lines: The same in whole cache lines.
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
    """Returns one line with machine and versions."""
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
    """Prints the table; returns whether all results are right."""
    table = Table(title=title)
    for column in ('operation', 'size', 'implementation', 'ms'):
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
    """Writes the rows as JSON if ``file`` is given."""
    if file:
        rows_as_dicts = [asdict(row) for row in rows]
        Path(file).write_text(
            json.dumps({'title': title, 'rows': rows_as_dicts}, indent=1)
        )


def run_all(
    title: str, cases: Sequence[Callable[[], list[Row]]], file: str | None
) -> list[Row]:
    """Runs all cases with a progress bar and returns their rows.

    Rows are written after each case, so that an interrupted run keeps them.
    """
    rows: list[Row] = []
    for case in track(cases, 'measuring'):
        rows += case()
        save(title, rows, file)
    return rows
