"""Plots of benchmark results."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
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


def _area(row: Row) -> float:
    height, width = row.size.split('x')
    return int(height) * int(width) / 1e6
