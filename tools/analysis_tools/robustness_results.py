"""Metrics of models on corrupted images, stored in a JSON file."""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

from grid import write_json
from mmengine.config import Config

CLEAN = ('clean', 0)
METRIC = 'mIoU'

Cell = tuple[str, int]  # corruption and severity


@dataclass
class Result:
    """Results of one model.

    Args:
        name (str): name of the model in tables and plot.
        config (str): config file.
        checkpoint (str): checkpoint file.
        fingerprint (str): hash of everything that the cells depend on.
        cells (dict[str, dict]): metrics or ``error`` of each cell by
            'corruption/severity'.
    """

    name: str
    config: str
    checkpoint: str
    fingerprint: str
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

    def drop(
        self, corruptions: Iterable[str], severities: Sequence[int]
    ) -> float:
        """Returns the mean relative drop of the mIoU in percent."""
        clean = self.score(CLEAN)
        difference = clean - self.mean(corruptions, severities)
        return 100 * difference / clean if clean else math.nan


def fingerprint(cfg: Config, checkpoint: str, seed: int) -> str:
    """Returns a hash of the config, the weights and the seed."""
    digest = hashlib.sha256()
    text = json.dumps([cfg.to_dict(), seed], sort_keys=True, default=str)
    digest.update(text.encode())
    with open(checkpoint, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class ResultFile:
    """Results of all models in a directory.

    Raises:
        ValueError: if the file is invalid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, Result] = {}
        if path.exists():
            try:
                models = json.loads(path.read_text())['models']
                self.results = {x['name']: Result(**x) for x in models}
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f'{path} is not a result file of this tool ({error!r}): '
                    'move it away, or choose another --out'
                ) from error

    def add(self, result: Result) -> Result:
        """Adds a model and keeps its existing cells if they are valid."""
        known = self.results.get(result.name)
        if known is not None and known.fingerprint == result.fingerprint:
            result.cells = known.cells
        self.results[result.name] = result
        return result

    def save(self) -> None:
        """Writes the file."""
        models = [asdict(result) for result in self.results.values()]
        write_json(self.path, dict(models=models))
