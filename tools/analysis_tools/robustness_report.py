"""Tables and the plot of robustness.py."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table
from robustness_results import CLEAN, METRIC, Result

from mmfaseg.datasets.transforms import CORRUPTIONS

COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#999999')
FAILED = 'failed'

Rows = list[list[str]]


class Report:
    """Tables and plot of some models on one grid.

    Args:
        results: the models.
        corruptions: rows of the grid.
        severities: columns of the grid.
    """

    def __init__(
        self,
        results: Sequence[Result],
        corruptions: Sequence[str],
        severities: Sequence[int],
    ) -> None:
        self.results = results
        self.corruptions = corruptions
        self.severities = severities
        self.groups = {
            group: [name for name in names if name in corruptions]
            for group, names in CORRUPTIONS.items()
            if not set(names).isdisjoint(corruptions)
        }

    def summary(self) -> Rows:
        """Return a row for each model, below the titles."""
        rows = [['model', 'clean', *self.groups, 'mean', 'drop %']]
        for result in self.results:
            means = [
                result.mean(names, self.severities)
                for names in (*self.groups.values(), self.corruptions)
            ]
            drop = result.drop(self.corruptions, self.severities)
            numbers = map(_text, (result.score(CLEAN), *means, drop))
            rows.append([result.name, *numbers])
        return rows

    def grid(self, result: Result) -> Rows:
        """Return all cells of a model and their means, below the titles."""
        rows = [[result.name, *map(str, self.severities), 'mean']]
        for name in self.corruptions:
            cells = [(name, severity) for severity in self.severities]
            texts = [
                FAILED if result.error(cell) else _text(result.score(cell))
                for cell in cells
            ]
            mean = _text(result.mean([name], self.severities))
            rows.append([name, *texts, mean])
        means = [
            result.mean(self.corruptions, [severity])
            for severity in self.severities
        ]
        mean = result.mean(self.corruptions, self.severities)
        rows.append(['mean', *map(_text, (*means, mean))])
        return rows

    def failures(self) -> list[str]:
        """Return a line for each cell that could not be measured."""
        return [
            f'{result.name}, {name} {severity}: {reason}'
            for result in self.results
            for name in self.corruptions
            for severity in self.severities
            if (reason := result.error((name, severity)))
        ]

    def tables(self) -> list[Table]:
        """Return the tables for a terminal."""
        grids = [_table(self.grid(result)) for result in self.results]
        return [*grids, _table(self.summary())]

    def write_markdown(self, path: Path) -> None:
        """Write the tables, and what failed."""
        parts = [f'{METRIC} in percent, on clean images and corrupted ones.']
        parts.append(_markdown(self.summary()))
        parts += [_markdown(self.grid(result)) for result in self.results]
        if failures := self.failures():
            parts.append('Not measured, and in no mean:')
            parts.append('\n'.join(f'- {line}' for line in failures))
        path.write_text('\n\n'.join(parts) + '\n')

    def draw(self, path: Path) -> None:
        """Draw mIoU against severity, and by group of corruptions."""
        figure = Figure(figsize=(11, 4.5), layout='constrained')
        left, right = figure.subplots(1, 2, sharey=True)
        width = 0.8 / len(self.results)
        for number, result in enumerate(self.results):
            colour = COLOURS[number % len(COLOURS)]
            clean = _number(result.score(CLEAN))
            means = [
                _number(result.mean(self.corruptions, [severity]))
                for severity in self.severities
            ]
            left.plot(
                [0, *self.severities],
                [clean, *means],
                'o-',
                color=colour,
                label=result.name,
            )
            heights = [
                _number(result.mean(names, self.severities))
                for names in self.groups.values()
            ]
            shift = (number - (len(self.results) - 1) / 2) * width
            places = [place + shift for place in range(len(heights))]
            right.bar(places, heights, width, color=colour)
            right.axhline(clean, color=colour, linestyle=':')
        left.set_xticks(
            [0, *self.severities], ['clean', *map(str, self.severities)]
        )
        left.set_xlabel(
            f'severity (mean of {len(self.corruptions)} corruptions)'
        )
        left.set_ylabel(f'{METRIC} in %')
        left.set_ylim(0)
        left.legend(frameon=False)
        right.set_xticks(range(len(self.groups)), list(self.groups))
        right.set_xlabel('corruptions (mean of severities; dotted: clean)')
        for axes in (left, right):
            axes.spines[['top', 'right']].set_visible(False)
        figure.savefig(path, dpi=120)


def _text(number: float | None) -> str:
    return '-' if number is None else f'{number:.2f}'


def _number(score: float | None) -> float:
    return float('nan') if score is None else score


def _table(rows: Rows) -> Table:
    table = Table(rows[0][0])
    for title in rows[0][1:]:
        table.add_column(title, justify='right')
    for row in rows[1:]:
        table.add_row(*row)
        if rows[-1][0] == 'mean' and row is rows[-2]:
            table.add_section()
    return table


def _markdown(rows: Rows) -> str:
    rule = ['---', *['---:'] * (len(rows[0]) - 1)]
    lines = [rows[0], rule, *rows[1:]]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
