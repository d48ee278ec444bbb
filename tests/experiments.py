"""The experiments among the configs, for the tests that go through them."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXPERIMENTS = sorted(
    path
    for path in ROOT.glob('configs/*/*.py')
    if path.parent.name != '_base_'
)
PATHS = pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda x: x.stem)
