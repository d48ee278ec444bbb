"""Report of a study: means, paired differences, tables and figures."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from grid import GridError, Rows, markdown_table, rich_table, write_json
from matplotlib.figure import Figure
from rich.console import Console
from scipy import stats
from study_cell import Cell

from mmfaseg.evaluation import MAIN_METRICS, in_percent, main_metric

BEGIN, END = '<!-- study: begin -->', '<!-- study: end -->'
CONFIDENCE = 0.95
Results = dict[str, dict[int, dict]]  # by row and seed


def report(
    cells: Sequence[Cell],
    baseline: str,
    metrics: Sequence[str] | None,
    readme: Path | None,
    console: Console,
) -> None:
    """Prints and writes the tables and draws the figures.

    Raises:
        GridError: if no cell is finished, or a metric is unknown.
    """
    results: Results = {cell.row: {} for cell in cells}
    for cell in cells:
        result = cell.result()
        if result is not None:
            results[cell.row][cell.seed] = result
    done = [x for row in results.values() for x in row.values()]
    if not done:
        raise GridError('no cell is finished: there is nothing to report')
    names = _choose_metrics(done, metrics)
    out = cells[0].out
    summary = [
        _summarize(row, seeds, results[baseline], names)
        for row, seeds in results.items()
    ]
    title = (
        f'{len(done)} of {len(cells)} cells; mean ± standard deviation, '
        f'difference to {baseline} [{CONFIDENCE:.0%} confidence interval]'
    )
    console.print(rich_table(_summary_rows(summary, names), title))
    text = markdown(summary, results, names, baseline)
    (out / 'table.md').write_text(text, 'utf-8')
    write_json(out / 'summary.json', dict(baseline=baseline, rows=summary))
    draw_curves(cells, out / 'curves.png')
    draw_differences(summary, names[0], baseline, out / 'differences.png')
    if readme is not None:
        insert(text, readme)
    console.print(f'table, summary and figures: {out}')


def paired_difference(
    values: dict[int, float], baseline: dict[int, float]
) -> dict[str, float | int] | None:
    """Returns the mean difference over common seeds, or None without any.

    With at least two pairs, ``half_width`` is half the width of the confidence
    interval of a paired t-test.
    """
    pairs = [values[x] - baseline[x] for x in sorted(values) if x in baseline]
    pairs = [x for x in pairs if not math.isnan(x)]
    if not pairs:
        return None
    difference: dict[str, float | int] = dict(
        mean=float(np.mean(pairs)), pairs=len(pairs)
    )
    if len(pairs) > 1:
        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(pairs) - 1)
        difference['half_width'] = float(quantile * stats.sem(pairs))
    return difference


def _choose_metrics(
    done: list[dict], chosen: Sequence[str] | None
) -> list[str]:
    known = list(dict.fromkeys(k for x in done for k in x['metrics']))
    if chosen is None:
        return [name for name in known if name.startswith('m')] or known
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise GridError(f'unknown --metrics {unknown}: choose from {known}')
    return list(chosen)


def _summarize(
    row: str, seeds: dict[int, dict], baseline: dict[int, dict], names: list
) -> dict:
    """Returns the statistics of a row."""
    summary: dict = dict(row=row, seeds=sorted(seeds), metrics={})
    for name in names:
        values, reference = (
            {seed: x['metrics'].get(name, math.nan) for seed, x in y.items()}
            for y in (seeds, baseline)
        )
        known = [x for x in values.values() if not math.isnan(x)]
        summary['metrics'][name] = dict(
            cells=values,
            mean=float(np.mean(known)) if known else math.nan,
            std=float(np.std(known, ddof=1)) if len(known) > 1 else None,
            difference=None
            if seeds is baseline
            else paired_difference(values, reference),
        )
    first = next(iter(seeds.values()), {})
    summary['parameters'] = first.get('parameters')
    seconds = [x['seconds'] for x in seeds.values() if x['seconds']]
    summary['seconds'] = float(np.mean(seconds)) if seconds else None
    return summary


def _summary_rows(summary: list[dict], names: list[str]) -> Rows:
    rows = [['row', 'seeds', 'parameters, M', *names]]
    for row in summary:
        size = row['parameters']
        rows.append(
            [
                row['row'],
                str(len(row['seeds'])),
                '' if size is None else f'{size / 1e6:.3f}',
                *(_describe(row['metrics'][name]) for name in names),
            ]
        )
    return rows


def _describe(metric: dict) -> str:
    """Returns the mean and, on a second line, the difference."""
    if not metric['cells']:
        return '–'
    text = f'{metric["mean"]:.2f}'
    if metric['std'] is not None:
        text += f' ± {metric["std"]:.2f}'
    difference = metric['difference']
    if difference is not None:
        mean, half = difference['mean'], difference.get('half_width')
        text += f'\n{mean:+.2f}'
        if half is not None:
            text += f' [{mean - half:+.2f}, {mean + half:+.2f}]'
    return text


def markdown(
    summary: list[dict], results: Results, names: list[str], baseline: str
) -> str:
    """Returns the Markdown report: summary, cells and versions."""
    seeds = sorted({seed for row in results.values() for seed in row})
    cells = [['row', *(f'seed {x}' for x in seeds)]]
    for row in summary:
        values = row['metrics'][names[0]]['cells']
        texts = [f'{values[x]:.2f}' if x in values else '' for x in seeds]
        cells.append([row['row'], *texts])
    versions = {
        ', '.join(f'{k} {v}' for k, v in sorted(cell['versions'].items()))
        for row in results.values()
        for cell in row.values()
    }
    parts = [
        'Mean ± standard deviation over seeds; below it the difference to '
        f'`{baseline}` with its {CONFIDENCE:.0%} confidence interval, from '
        'pairs of runs with the same seed.',
        markdown_table(_summary_rows(summary, names)),
        f'All runs, {names[0]}:',
        markdown_table(cells),
        '\n'.join(f'Versions: {x}.' for x in sorted(versions)),
    ]
    return '\n\n'.join(parts) + '\n'


def insert(text: str, readme: Path) -> None:
    """Replaces the text between the markers in a file.

    Raises:
        GridError: if the file does not contain the markers.
    """
    page = readme.read_text('utf-8') if readme.exists() else ''
    counts = page.count(BEGIN), page.count(END)
    if counts != (1, 1) or page.index(END) < page.index(BEGIN):
        raise GridError(
            f'{readme} needs one line {BEGIN!r} and one line {END!r} below it'
        )
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(f'{before}{BEGIN}\n{text}{END}{after}', 'utf-8')


def draw_curves(cells: Sequence[Cell], path: Path) -> None:
    """Draws the validation curve of each row: mean and range over seeds."""
    figure = Figure(figsize=(9, 5), layout='constrained')
    axes = figure.subplots()
    rows: dict = defaultdict(lambda: defaultdict(dict))
    shown = None
    for cell in cells:
        for line in cell.scalars():
            name = main_metric(line)
            shown = shown or name  # one metric per figure
            if name is not None and name == shown:
                value = in_percent({name: line[name]})[name]
                rows[cell.row][line['step']][cell.seed] = value
    for row, by_step in rows.items():
        steps = sorted(by_step)
        values = [list(by_step[x].values()) for x in steps]
        means = [np.mean(x) for x in values]
        (line,) = axes.plot(steps, means, 'o-', markersize=3, label=row)
        low, high = ([f(x) for x in values] for f in (min, max))
        axes.fill_between(
            steps, low, high, color=line.get_color(), alpha=0.15, linewidth=0
        )
    axes.set_xlabel('iterations')
    if shown is not None:
        axes.set_ylabel(f'validation {MAIN_METRICS[shown]} in %')
        axes.legend(frameon=False, fontsize=8)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=120)


def draw_differences(
    summary: list[dict], name: str, baseline: str, path: Path
) -> None:
    """Draws the difference of each row to the baseline, with intervals."""
    rows = [
        (row['row'], row['metrics'][name]['difference'])
        for row in reversed(summary)
        if row['metrics'][name]['difference'] is not None
    ]
    figure = Figure(figsize=(8, 1.2 + 0.4 * len(rows)), layout='constrained')
    axes = figure.subplots()
    for y, (_, difference) in enumerate(rows):
        axes.errorbar(
            difference['mean'],
            y,
            xerr=difference.get('half_width'),
            fmt='o',
            color='#0072b2',
            capsize=3,
        )
    axes.axvline(0, color='black', linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row for row, _ in rows], fontsize=8)
    axes.tick_params(left=False)
    axes.set_ylim(-0.6, max(len(rows) - 0.4, 0.6))
    axes.set_xlabel(f'difference of {name} to {baseline}, percentage points')
    axes.spines[['top', 'right', 'left']].set_visible(False)
    figure.savefig(path, dpi=120)
