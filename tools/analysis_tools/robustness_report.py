"""Tables and plot of robustness.py."""

import math
from collections.abc import Sequence
from pathlib import Path

from grid import Rows, markdown_table
from matplotlib.figure import Figure
from robustness_results import CLEAN, METRIC, Result

from mmfaseg.datasets.transforms import CORRUPTIONS

COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#999999')


class Report:
    """Tables and plot for several models.

    Args:
        results (Sequence[Result]): results of the models.
        corruptions (Sequence[str]): rows of the grid.
        severities (Sequence[int]): columns of the grid.
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
        """Returns a table with one row per model."""
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
        """Returns a table of all cells of a model and their means."""
        rows = [[result.name, *map(str, self.severities), 'mean']]
        for name in self.corruptions:
            cells = [(name, severity) for severity in self.severities]
            texts = [
                'failed'
                if 'error' in result.metrics(cell)
                else _text(result.score(cell))
                for cell in cells
            ]
            mean = _text(result.mean([name], self.severities))
            rows.append([name, *texts, mean])
        columns = [*([x] for x in self.severities), self.severities]
        means = [result.mean(self.corruptions, x) for x in columns]
        return [*rows, ['mean', *map(_text, means)]]

    def tables(self) -> list[Rows]:
        """Returns the grids of all models, then the summary."""
        return [*map(self.grid, self.results), self.summary()]

    def failures(self) -> list[str]:
        """Returns a line for each cell that failed."""
        return [
            f'{result.name}, {name} {severity}: {metrics["error"]}'
            for result in self.results
            for name in self.corruptions
            for severity in self.severities
            if 'error' in (metrics := result.metrics((name, severity)))
        ]

    def write_markdown(self, path: Path) -> None:
        """Writes the tables, and the failures if there are any."""
        *grids, summary = map(markdown_table, self.tables())
        parts = [f'{METRIC} in percent on clean and corrupted images.']
        parts += [summary, *grids]
        if failures := self.failures():
            parts.append('Failed cells, excluded from all means:')
            parts.append('\n'.join(f'- {line}' for line in failures))
        path.write_text('\n\n'.join(parts) + '\n')

    def draw(self, path: Path) -> None:
        """Draws the mIoU by severity and by group of corruptions."""
        figure = Figure(figsize=(11, 4.5), layout='constrained')
        left, right = figure.subplots(1, 2, sharey=True)
        width = 0.8 / len(self.results)
        for number, result in enumerate(self.results):
            color = COLORS[number % len(COLORS)]
            clean = result.score(CLEAN)
            means = [
                result.mean(self.corruptions, [x]) for x in self.severities
            ]
            left.plot(
                [0, *self.severities],
                [clean, *means],
                'o-',
                color=color,
                label=result.name,
            )
            heights = [
                result.mean(names, self.severities)
                for names in self.groups.values()
            ]
            shift = (number - (len(self.results) - 1) / 2) * width
            places = [place + shift for place in range(len(heights))]
            right.bar(places, heights, width, color=color)
            right.axhline(clean, color=color, linestyle=':')
        left.set_xticks(
            [0, *self.severities], ['clean', *map(str, self.severities)]
        )
        left.set_xlabel(f'severity (mean over {len(self.corruptions)} types)')
        left.set_ylabel(f'{METRIC} in %')
        left.set_ylim(0)
        left.legend(frameon=False)
        right.set_xticks(range(len(self.groups)), list(self.groups))
        right.set_xlabel('corruption (mean over severities; dotted: clean)')
        for axes in (left, right):
            axes.spines[['top', 'right']].set_visible(False)
        figure.savefig(path, dpi=120)


def _text(number: float) -> str:
    return '-' if math.isnan(number) else f'{number:.2f}'
