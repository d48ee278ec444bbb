"""The experiments among the configs, for the tests that go through them."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DETECTORS = sorted(ROOT.glob('configs/faseg_coco/*.py'))
EXPERIMENTS = sorted(
    path
    for path in ROOT.glob('configs/*/*.py')
    if path.parent.name not in ('_base_', 'faseg_coco')
)
ALL_PATHS = pytest.mark.parametrize(
    'path', [*EXPERIMENTS, *DETECTORS], ids=lambda x: x.stem
)
PATHS = pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda x: x.stem)
