"""What was measured for each model, kept in one JSON file."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

from mmengine.config import Config
from result_files import write_json

CLEAN = ('clean', 0)
METRIC = 'mIoU'

Cell = tuple[str, int]  # corruption and severity


@dataclass
class Result:
    """The cells of one model.

    Args:
        name: as the tables and the plot call it.
        config: its config file.
        checkpoint: its checkpoint file.
        fingerprint: digest of all that the cells depend on.
        cells: by 'corruption/severity', the metrics, or why there are none.
    """

    name: str
    config: str
    checkpoint: str
    fingerprint: str
    cells: dict[str, dict] = field(default_factory=dict)

    def add(self, cell: Cell, metrics: dict) -> None:
        """Keep the metrics of a cell."""
        self.cells[_key(cell)] = metrics

    def score(self, cell: Cell) -> float | None:
        """Return the mIoU of a cell in percent, None if it has none."""
        return self.cells.get(_key(cell), {}).get(METRIC)

    def error(self, cell: Cell) -> str | None:
        """Return why a cell has no metrics."""
        return self.cells.get(_key(cell), {}).get('error')

    def mean(
        self, corruptions: Iterable[str], severities: Sequence[int]
    ) -> float | None:
        """Return the mean mIoU of the cells that have one."""
        scores = [
            self.score((name, severity))
            for name in corruptions
            for severity in severities
        ]
        known = [score for score in scores if score is not None]
        return fmean(known) if known else None

    def drop(
        self, corruptions: Iterable[str], severities: Sequence[int]
    ) -> float | None:
        """Return how much of the clean mIoU is lost on average, in percent."""
        clean = self.score(CLEAN)
        mean = self.mean(corruptions, severities)
        if not clean or mean is None:
            return None
        return 100 * (clean - mean) / clean


def fingerprint(cfg: Config, checkpoint: str, seed: int) -> str:
    """Return a digest of the config, the weights and the seed."""
    digest = hashlib.sha256()
    text = json.dumps([cfg.to_dict(), seed], sort_keys=True, default=str)
    digest.update(text.encode())
    with open(checkpoint, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class ResultFile:
    """The results of all models that were ever measured into a folder.

    A model that comes again under its name with another config, checkpoint or
    seed starts anew; others keep their cells.

    Raises:
        ValueError: If the file is there and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, Result] = {}
        if path.exists():
            try:
                models = json.loads(path.read_text())['models']
                self.results = {
                    each['name']: Result(**each) for each in models
                }
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f'{path} holds no results of this tool ({error!r}): move '
                    'it away, or choose another --out'
                ) from error

    def enter(self, result: Result) -> Result:
        """Return the result with the cells that are known already."""
        known = self.results.get(result.name)
        if known is not None and known.fingerprint == result.fingerprint:
            result.cells = known.cells
        self.results[result.name] = result
        return result

    def save(self) -> None:
        """Write the file: whole, or not at all."""
        models = [asdict(result) for result in self.results.values()]
        write_json(self.path, dict(models=models))


def _key(cell: Cell) -> str:
    return '/'.join(map(str, cell))
