"""Experiment configs for tests that iterate over all of them."""

import copy
import functools
from pathlib import Path

from mmengine.config import Config

ROOT = Path(__file__).parent.parent
DETECTORS = sorted(ROOT.glob('configs/faseg_coco/*.py'))
EXPERIMENTS = sorted(
    path
    for path in ROOT.glob('configs/*/*.py')
    if path.parent.name not in ('_base_', 'faseg_coco')
)


def load(path: Path) -> Config:
    """Returns a copy of a config; files are parsed once."""
    return copy.deepcopy(_parse(path))


@functools.cache
def _parse(path: Path) -> Config:
    return Config.fromfile(path, import_custom_modules=False)
