"""Diagnostics: errors and warnings about a config or its data."""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_EXAMPLES = 3


@dataclass
class Diagnostic:
    """One error or warning, and how to fix it.

    An error means that training would fail or give wrong results.
    """

    is_error: bool
    where: str  # dataset split or location in the config
    problem: str
    remedy: str
    count: int = 0
    examples: tuple[str, ...] = ()  # affected files

    def __str__(self) -> str:
        times = f' ({self.count} times)' if self.count > 1 else ''
        files = ''.join(f'\n    {name}' for name in self.examples)
        return (
            f'{"error" if self.is_error else "warning"}: {self.where}: '
            f'{self.problem}{times}{files}\n  -> {self.remedy}'
        )


class Diagnostics:
    """Collects diagnostics in order and counts duplicates."""

    def __init__(self) -> None:
        self._entries: dict[tuple[bool, str, str, str], Diagnostic] = {}

    def error(
        self, where: str, problem: str, remedy: str, example: str = ''
    ) -> None:
        """Adds an error."""
        self._add((True, where, problem, remedy), example)

    def warn(
        self, where: str, problem: str, remedy: str, example: str = ''
    ) -> None:
        """Adds a warning."""
        self._add((False, where, problem, remedy), example)

    def _add(self, key: tuple[bool, str, str, str], example: str) -> None:
        entry = self._entries.setdefault(key, Diagnostic(*key))
        entry.count += 1
        if example and len(entry.examples) < MAX_EXAMPLES:
            entry.examples += (example,)

    def list(self) -> Sequence[Diagnostic]:
        """Returns all diagnostics, errors first."""
        return sorted(self._entries.values(), key=lambda x: not x.is_error)
