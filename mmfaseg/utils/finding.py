"""What an examination of a config or of its data has to say."""

from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what mends it.

    Attributes:
        is_error (bool): training would fail or learn something wrong; else
            it is only worth a look.
        where (str): split, or part of the config.
        problem (str): what was found.
        remedy (str): what to change.
        count (int): how often, 1 for what cannot be counted.
        examples (tuple[str, ...]): a few of the files.
    """

    is_error: bool
    where: str
    problem: str
    remedy: str
    count: int = 1
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        often = f' ({self.count} times)' if self.count > 1 else ''
        files = ''.join(f'\n    {name}' for name in self.examples)
        return (
            f'{"error" if self.is_error else "warning"}: {self.where}: '
            f'{self.problem}{often}{files}\n  -> {self.remedy}'
        )


@dataclass
class Findings:
    """Findings in the order of their discovery; equal ones are counted.

    Attributes:
        entries (dict): count and examples, by everything else of a finding.
    """

    entries: dict[tuple[bool, str, str, str], tuple[int, list[str]]] = field(
        default_factory=dict
    )

    def error(
        self, where: str, problem: str, remedy: str, example: str = ''
    ) -> None:
        """Adds what would make training fail or learn something wrong."""
        self._add((True, where, problem, remedy), example)

    def warn(
        self, where: str, problem: str, remedy: str, example: str = ''
    ) -> None:
        """Adds what is worth a look."""
        self._add((False, where, problem, remedy), example)

    def _add(self, key: tuple[bool, str, str, str], example: str) -> None:
        count, examples = self.entries.setdefault(key, (0, []))
        if example and len(examples) < MAX_EXAMPLES:
            examples.append(example)
        self.entries[key] = (count + 1, examples)

    def list(self) -> Sequence[Finding]:
        """Returns all findings, errors first."""
        found = [
            Finding(*key, count, tuple(examples))
            for key, (count, examples) in self.entries.items()
        ]
        return sorted(found, key=lambda x: not x.is_error)
