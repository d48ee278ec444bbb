"""Report of a conversion as a table."""

import math
import re

from rich.table import Table

from .conversion import NOT_LEARNED, Conversion

KEPT = 'keeps its initialization'


def make_table(conversion: Conversion) -> Table:
    """Returns a table with one row per conversion rule."""
    table = Table()
    for title in ('from', 'to'):
        table.add_column(title, overflow='fold')
    for title in ('entries', 'values'):
        table.add_column(title, justify='right', no_wrap=True)
    table.add_column('note')
    rows: dict[tuple[str, str, str], list[int]] = {}
    for entry in conversion.entries:
        source, target = entry.source, entry.target or '-'
        if entry.rule is not None:
            source, target = entry.rule
        row = rows.setdefault((source, target, entry.note), [0, 0])
        row[0] += 1
        row[1] += math.prod(entry.shape)
    for name in conversion.missing_keys:
        rows.setdefault(('-', _module(name), KEPT), [0, 0])[0] += 1
    for (source, target, note), (count, values) in rows.items():
        shown = f'{values:,}' if values else ''
        table.add_row(source, target, str(count), shown, note)
    table.add_section()
    kept = [x for x in conversion.entries if x.target is not None]
    values = sum(math.prod(x.shape) for x in kept)
    table.add_row('converted', '', str(len(kept)), f'{values:,}')
    dropped = len(conversion.entries) - len(kept)
    table.add_row('dropped', '', str(dropped))
    table.add_row(KEPT, '', str(len(conversion.missing_keys)))
    return table


def _module(name: str) -> str:
    """Returns a common name for the entries of a module or layer."""
    for end in NOT_LEARNED:
        if name.endswith(end):
            return f'*{end}'
    numbered = re.match(r'.*?layers\.\d+\.', name)
    return (numbered[0] if numbered else name.rpartition('.')[0] + '.') + '*'
