"""Results of robustness.py: metrics of models on corrupted images."""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from grid import Rows, markdown_table
from matplotlib.figure import Figure
from mmengine.config import Config

from mmfaseg.datasets.transforms import CORRUPTIONS

CLEAN = ('clean', 0)
COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#999999')
METRIC = 'mIoU'

Cell = tuple[str, int]  # corruption and severity


@dataclass
class Result:
    """Results of one model."""

    name: str
    config: str
    checkpoint: str
    fingerprint: str  # hash of everything that the cells depend on
    # metrics or 'error' of each cell by 'corruption/severity'
    cells: dict[str, dict] = field(default_factory=dict)

    def metrics(self, cell: Cell) -> dict:
        """Returns the metrics of a cell, empty if it was not measured."""
        return self.cells.get('/'.join(map(str, cell)), {})

    def set_metrics(self, cell: Cell, metrics: dict) -> None:
        """Stores the metrics of a cell."""
        self.cells['/'.join(map(str, cell))] = metrics

    def score(self, cell: Cell) -> float:
        """Returns the mIoU of a cell in percent, or NaN if there is none."""
        return self.metrics(cell).get(METRIC, math.nan)

    def mean(
        self, corruptions: Iterable[str], severities: Sequence[int]
    ) -> float:
        """Returns the mean mIoU of measured cells, or NaN without any."""
        scores = [
            score
            for name in corruptions
            for severity in severities
            if not math.isnan(score := self.score((name, severity)))
        ]
        return fmean(scores) if scores else math.nan


def fingerprint(cfg: Config, checkpoint: str, seed: int) -> str:
    """Returns a hash of the config, the weights and the seed."""
    digest = hashlib.sha256()
    text = json.dumps([cfg.to_dict(), seed], sort_keys=True, default=str)
    digest.update(text.encode())
    digest.update(Path(checkpoint).read_bytes())
    return digest.hexdigest()


def read_results(path: Path) -> dict[str, Result]:
    """Returns the results in a file by the name of the model, if it exists.

    Raises:
        ValueError: if the file is invalid.
    """
    if not path.exists():
        return {}
    try:
        models = json.loads(path.read_text())['models']
        return {x['name']: Result(**x) for x in models}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is not a result file of this tool ({error!r}): '
            'move it away, or choose another --out'
        ) from error


class Report:
    """Tables of corruptions by severities, and a plot, for several models."""

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
            clean = result.score(CLEAN)
            drop = 100 * (clean - means[-1]) / clean if clean else math.nan
            numbers = map(_text, (clean, *means, drop))
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
        path.write_text('\n\n'.join(parts) + '\n', 'utf-8')

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
