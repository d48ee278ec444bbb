"""What a study says: means, paired differences, curves, a table."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from result_files import write_json
from rich.console import Console
from rich.table import Table
from scipy import stats
from study_cell import Cell, StudyError

from mmfaseg.evaluation import MAIN_METRICS, in_percent, main_metric

BEGIN, END = '<!-- study: begin -->', '<!-- study: end -->'
CONFIDENCE = 0.95
Results = dict[str, dict[int, dict]]  # of each row, by seed


def report(
    cells: Sequence[Cell],
    baseline: str,
    metrics: Sequence[str] | None,
    readme: Path | None,
    console: Console,
) -> None:
    """Print the table, write it, and draw curves and differences.

    Raises:
        StudyError: if nothing is finished, or a metric was not measured.
    """
    results: Results = {cell.row: {} for cell in cells}
    for cell in cells:
        result = cell.result()
        if result is not None:
            results[cell.row][cell.seed] = result
    done = [x for row in results.values() for x in row.values()]
    if not done:
        raise StudyError('no cell is finished: there is nothing to report')
    names = _metrics(done, metrics)
    out = cells[0].out
    summary = [
        _summarize(row, seeds, results[baseline], names)
        for row, seeds in results.items()
    ]
    console.print(_table(summary, names, baseline, len(done), len(cells)))
    text = markdown(summary, results, names, baseline)
    (out / 'table.md').write_text(text)
    write_json(out / 'summary.json', dict(baseline=baseline, rows=summary))
    draw_curves(cells, out / 'curves.png')
    draw_differences(summary, names[0], baseline, out / 'differences.png')
    if readme is not None:
        insert(text, readme)
    console.print(f'table, summary and figures: {out}')


def paired_difference(
    ours: dict[int, float], theirs: dict[int, float]
) -> dict[str, float | int] | None:
    """Return the mean difference over common seeds, and its interval.

    The interval is Student's, of the differences of pairs with one seed:
    what both runs of a seed have in common does not widen it. A single pair
    has none.
    """
    pairs = [ours[x] - theirs[x] for x in sorted(ours) if x in theirs]
    pairs = [x for x in pairs if not math.isnan(x)]
    if not pairs:
        return None
    found: dict[str, float | int] = dict(
        mean=float(np.mean(pairs)), pairs=len(pairs)
    )
    if len(pairs) > 1:
        error = np.std(pairs, ddof=1) / math.sqrt(len(pairs))
        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(pairs) - 1)
        found['half_width'] = float(quantile * error)
    return found


def _metrics(done: list[dict], wanted: Sequence[str] | None) -> list[str]:
    known = list(dict.fromkeys(k for x in done for k in x['metrics']))
    if wanted is None:
        return [name for name in known if name.startswith('m')] or known
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise StudyError(f'--metrics {unknown}: measured were {known}')
    return list(wanted)


def _summarize(
    row: str, seeds: dict[int, dict], baseline: dict[int, dict], names: list
) -> dict:
    """Return all numbers of a row."""
    summary: dict = dict(row=row, seeds=sorted(seeds), metrics={})
    for name in names:
        ours, theirs = (
            {seed: x['metrics'].get(name, math.nan) for seed, x in y.items()}
            for y in (seeds, baseline)
        )
        values = [x for x in ours.values() if not math.isnan(x)]
        summary['metrics'][name] = dict(
            cells=ours,
            mean=float(np.mean(values)) if values else math.nan,
            std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
            difference=None
            if seeds is baseline
            else paired_difference(ours, theirs),
        )
    first = next(iter(seeds.values()), {})
    summary['parameters'] = first.get('parameters')
    whole = [x['seconds'] for x in seeds.values() if x['seconds']]
    summary['seconds'] = float(np.mean(whole)) if whole else None
    return summary


def _value(metric: dict) -> str:
    if not metric['cells']:
        return '–'
    spread = '' if metric['std'] is None else f' ± {metric["std"]:.2f}'
    return f'{metric["mean"]:.2f}{spread}'


def _difference(metric: dict) -> str:
    found = metric['difference']
    if found is None:
        return ''
    if 'half_width' not in found:
        return f'{found["mean"]:+.2f}'
    mean, half = found['mean'], found['half_width']
    return f'{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]'


def _table(
    summary: list[dict], names: list[str], baseline: str, done: int, all_: int
) -> Table:
    table = Table(
        title=f'{done} of {all_} cells; mean ± standard deviation, difference '
        f'to {baseline} [{CONFIDENCE:.0%} interval of pairs]'
    )
    table.add_column('row')
    table.add_column('seeds', justify='right')
    for name in names:
        table.add_column(name, justify='right')
    for row in summary:
        cells = [row['metrics'][name] for name in names]
        table.add_row(
            row['row'],
            str(len(row['seeds'])),
            *(f'{_value(x)}\n{_difference(x)}'.strip() for x in cells),
        )
    return table


def markdown(
    summary: list[dict], results: Results, names: list[str], baseline: str
) -> str:
    """Return the table and all cells, for a page."""
    head = ['row', 'seeds', 'parameters, M', *names]
    lines = [
        f'Mean ± standard deviation over seeds; below it the difference to '
        f'`{baseline}` with its {CONFIDENCE:.0%} interval, from pairs of runs '
        'with one seed.',
        '',
        '| ' + ' | '.join(head) + ' |',
        '|---' * len(head) + '|',
    ]
    for row in summary:
        cells = [row['metrics'][name] for name in names]
        size = row['parameters']
        words = [
            row['row'],
            str(len(row['seeds'])),
            '' if size is None else f'{size / 1e6:.3f}',
            *(f'{_value(x)}<br>{_difference(x)}' for x in cells),
        ]
        lines.append('| ' + ' | '.join(x.removesuffix('<br>') for x in words))
        lines[-1] += ' |'
    lines += ['', f'All cells, {names[0]}:', '']
    seeds = sorted({seed for row in results.values() for seed in row})
    lines.append('| row | ' + ' | '.join(f'seed {x}' for x in seeds) + ' |')
    lines.append('|---' * (len(seeds) + 1) + '|')
    for row in summary:
        cells = row['metrics'][names[0]]['cells']
        words = [f'{cells[x]:.2f}' if x in cells else '' for x in seeds]
        lines.append('| ' + ' | '.join([row['row'], *words]) + ' |')
    versions = sorted(
        ', '.join(f'{k} {v}' for k, v in x.items())
        for x in {
            tuple(sorted(cell['versions'].items())): cell['versions']
            for row in results.values()
            for cell in row.values()
        }.values()
    )
    lines += ['', *(f'Run by {x}.' for x in versions)]
    return '\n'.join(lines) + '\n'


def insert(text: str, readme: Path) -> None:
    """Put the table between the marks of a page.

    Raises:
        StudyError: if the page has no such marks.
    """
    page = readme.read_text() if readme.exists() else ''
    marks = page.count(BEGIN), page.count(END)
    if marks != (1, 1) or page.index(END) < page.index(BEGIN):
        raise StudyError(
            f'{readme} needs one line {BEGIN!r} and one line {END!r} below it'
        )
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(f'{before}{BEGIN}\n{text}{END}{after}')


def draw_curves(cells: Sequence[Cell], path: Path) -> None:
    """Draw the main metric on the validation set, a line per row."""
    figure = Figure(figsize=(9, 5), layout='constrained')
    axes = figure.subplots()
    rows: dict[str, dict[int, dict[int, float]]] = {}
    shown = None
    for cell in cells:
        for line in cell.scalars():
            name = main_metric(line)
            shown = shown or name  # one axis, one metric
            if name is not None and name == shown:
                by_step = rows.setdefault(cell.row, {})
                by_seed = by_step.setdefault(line['step'], {})
                by_seed[cell.seed] = in_percent({name: line[name]})[name]
    for row, by_step in rows.items():
        steps = sorted(by_step)
        values = [list(by_step[x].values()) for x in steps]
        means = [np.mean(x) for x in values]
        (line,) = axes.plot(steps, means, 'o-', markersize=3, label=row)
        axes.fill_between(
            steps,
            [min(x) for x in values],
            [max(x) for x in values],
            color=line.get_color(),
            alpha=0.15,
            linewidth=0,
        )
    axes.set_xlabel('iterations')
    if shown is not None:
        axes.set_ylabel(f'{MAIN_METRICS[shown]} of the validation set, %')
    axes.spines[['top', 'right']].set_visible(False)
    if rows:
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def draw_differences(
    summary: list[dict], name: str, baseline: str, path: Path
) -> None:
    """Draw the difference of every row to the baseline, with intervals."""
    rows = [
        (row['row'], row['metrics'][name])
        for row in summary
        if row['metrics'][name]['difference'] is not None
    ]
    figure = Figure(figsize=(8, 1.2 + 0.4 * len(rows)), layout='constrained')
    axes = figure.subplots()
    for place, (row, metric) in enumerate(reversed(rows)):
        found = metric['difference']
        axes.errorbar(
            found['mean'],
            place,
            xerr=found.get('half_width'),
            fmt='o',
            color='#0072b2',
            capsize=3,
        )
        axes.annotate(row, (0, place), (-4, 0), **_LEFT_OF_AXES)
    axes.axvline(0, color='black', linewidth=0.8)
    axes.set_yticks([])
    axes.set_ylim(-0.6, max(len(rows) - 0.4, 0.6))
    axes.set_xlabel(f'{name} minus that of {baseline}, percent points')
    axes.spines[['top', 'right', 'left']].set_visible(False)
    figure.savefig(path, dpi=120)


_LEFT_OF_AXES: dict = dict(
    xycoords=('axes fraction', 'data'),
    textcoords='offset points',
    ha='right',
    va='center',
    fontsize=8,
)
