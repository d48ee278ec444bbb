"""Plots of benchmark results."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from measure import Row

COLORS = ('#0072b2', '#d55e00', '#009e73', '#999999')


def plot_cost(rows: Sequence[Row], title: str, file: str) -> None:
    """Plots time and memory of whole models against the image area."""
    figure = Figure(figsize=(11, 4.5), layout='constrained')
    figure.suptitle(title, fontsize=9)
    left, right = figure.subplots(1, 2)
    whole = [row for row in rows if row.op == 'whole' and row.ms]
    for color, variant in zip(
        COLORS, dict.fromkeys(row.variant for row in whole), strict=False
    ):
        mine = sorted(
            (row for row in whole if row.variant == variant), key=_area
        )
        areas = [_area(row) for row in mine]
        for axes, values in (
            (left, [row.ms / 1000 for row in mine if row.ms]),
            (right, [row.extra or 0 for row in mine]),
        ):
            axes.plot(areas, values, 'o-', color=color, label=variant)
            slope = values[0] / areas[0]
            axes.plot(areas, [slope * x for x in areas], ':', color=color)
    left.set_ylabel('seconds per batch')
    right.set_ylabel('peak memory, MiB')
    for axes in (left, right):
        axes.set_xlabel('megapixels (dotted: proportional to the area)')
        axes.set_ylim(0)
        axes.legend(frameon=False)
        axes.spines[['top', 'right']].set_visible(False)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def plot_scale(
    rows: Sequence[Row], exponents: dict[str, float], title: str, file: str
) -> None:
    """Plots time and memory against each dimension of bench_scale.py."""
    sweeps = list(exponents)
    figure = Figure(figsize=(2.8 * len(sweeps), 5), layout='constrained')
    figure.suptitle(f'{title} (dotted: proportional)', fontsize=9)
    panels = figure.subplots(2, len(sweeps), squeeze=False, sharex='col')
    for (top, bottom), sweep in zip(panels.T, sweeps, strict=True):
        mine = [row for row in rows if row.op == sweep and row.ms]
        values = [float(row.size) for row in mine]
        for axes, costs, color in (
            (top, [row.ms / 1000 for row in mine if row.ms], COLORS[0]),
            (bottom, [row.extra or 0 for row in mine], COLORS[1]),
        ):
            axes.loglog(values, costs, 'o-', color=color)
            line = [costs[0] * x / values[0] for x in values]
            axes.loglog(values, line, ':', color=color)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter('{x:g}')
            axes.minorticks_off()
            axes.tick_params(labelsize=8)
            axes.spines[['top', 'right']].set_visible(False)
        top.set_title(f'time: exponent {exponents[sweep]:.2f}', fontsize=9)
        bottom.set_xlabel(sweep)
        bottom.set_xticks(values, [row.size for row in mine])
        bottom.minorticks_off()
    panels[0, 0].set_ylabel('seconds per batch')
    panels[1, 0].set_ylabel('peak memory, MiB')
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def _area(row: Row) -> float:
    height, width = row.size.split('x')
    return int(height) * int(width) / 1e6
