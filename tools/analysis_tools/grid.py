"""Progress, result files and tables of grid experiments.

A grid experiment consists of cells, such as a config and a seed. The results
of finished cells are stored in files, so that the same command resumes an
interrupted experiment.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from mmfaseg.utils.atomic_write import atomic_write
from mmfaseg.utils.command_line import USER_ERRORS

Rows = list[list[str]]  # rows of a table, header first


class GridError(Exception):
    """User error, which is printed without traceback."""


def run_main(run: Callable[[], bool], console: Console) -> int:
    """Returns the exit status; ``run`` returns whether all cells succeeded.

    Prints errors of the user without a traceback.
    """
    try:
        return 0 if run() else 1
    except (GridError, *USER_ERRORS) as error:
        text = f'error: {error}'
        console.print(text, style='red', markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print('interrupted: run the same command to resume')
        return 130


class GridProgress(Progress):
    """Shows a progress bar on terminals and prints a line for each cell.

    ``partial`` is the sum of the completed fractions of unfinished cells.
    """

    def __init__(
        self, console: Console, total: int, partial: float = 0
    ) -> None:
        super().__init__(
            *Progress.get_default_columns(),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,  # a thread is unsafe with forked workers
            disable=not console.is_terminal,
            speed_estimate_period=600,  # cells differ in speed
        )
        self.total, self.done = total, 0
        self.task = self.add_task('', total=total, completed=partial)

    def show(self, description: str, partial: float = 0) -> None:
        """Shows the running cells."""
        completed = self.done + partial
        self.update(self.task, completed=completed, description=description)
        self.refresh()

    def finish_cell(self, text: str) -> None:
        """Counts a cell and prints its result."""
        self.done += 1
        self.console.print(
            f'[{self.done}/{self.total}] {text}',
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def rich_table(rows: Rows, title: str | None = None) -> Table:
    """Returns a table for the terminal."""
    table = Table(rows[0][0], title=title)
    for name in rows[0][1:]:
        table.add_column(name, justify='right')
    for row in rows[1:]:
        table.add_row(*row)
    return table


def markdown_table(rows: Rows) -> str:
    """Returns a Markdown table."""
    rule = ['---', *['---:'] * (len(rows[0]) - 1)]
    lines = [' | '.join(row) for row in (rows[0], rule, *rows[1:])]
    return '\n'.join(f'| {x} |'.replace('\n', '<br>') for x in lines)


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file, or None if it does not exist."""
    return json.loads(path.read_text()) if path.exists() else None


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + '\n')


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Locks a folder for this process.

    Raises:
        GridError: if another process has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / 'lock').acquire(timeout=0)
    except Timeout as error:
        raise GridError(
            f'another process writes to {folder}: wait for it, stop it, or '
            'choose another --out'
        ) from error
    with lock:
        yield


def digest(value: object) -> str:
    """Returns a hash of a JSON-serializable value."""
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
