"""Diagnostics: errors and warnings about a config or its data."""

from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_EXAMPLES = 3


@dataclass(frozen=True)
class Diagnostic:
    """One error or warning, and how to fix it.

    An error means that training would fail or give wrong results.
    """

    is_error: bool
    where: str  # dataset split or location in the config
    problem: str
    remedy: str
    count: int = 1
    examples: tuple[str, ...] = ()  # affected files

    def __str__(self) -> str:
        times = f' ({self.count} times)' if self.count > 1 else ''
        files = ''.join(f'\n    {name}' for name in self.examples)
        return (
            f'{"error" if self.is_error else "warning"}: {self.where}: '
            f'{self.problem}{times}{files}\n  -> {self.remedy}'
        )


@dataclass
class Diagnostics:
    """Collects diagnostics in order and counts duplicates."""

    # count and examples of each diagnostic
    entries: dict[tuple[bool, str, str, str], tuple[int, list[str]]] = field(
        default_factory=dict
    )

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
        count, examples = self.entries.setdefault(key, (0, []))
        if example and len(examples) < MAX_EXAMPLES:
            examples.append(example)
        self.entries[key] = (count + 1, examples)

    def list(self) -> Sequence[Diagnostic]:
        """Returns all diagnostics, errors first."""
        diagnostics = [
            Diagnostic(*key, count, tuple(examples))
            for key, (count, examples) in self.entries.items()
        ]
        return sorted(diagnostics, key=lambda x: not x.is_error)
