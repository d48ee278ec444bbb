"""The installed wheel under mim, in an environment of its own.

openmim pulls in openxlab, which pins an old setuptools against the wish of
PyTorch: it must not come into the environment of the other tests.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CONFIG = 'faseg_r18_1xb8-demo_shapes-128x128.py'
QUICK = [
    'train_cfg.max_iters=2',
    'train_cfg.val_interval=2',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'val_dataloader.dataset.length=2',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'test_dataloader.dataset.length=2',
    'default_hooks.checkpoint.interval=2',
    'model.backbone.init_cfg=None',
]


def run(*command: object, cwd: Path, timeout: float = 900) -> str:
    """Run a program away from the checkout and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope='module')
def environment(root: Path, wheel: Path, tmp_path_factory) -> Path:
    """The folder of the programs of an environment with mim and the wheel."""
    place = tmp_path_factory.mktemp('mim')
    run(sys.executable, '-m', 'venv', place / 'venv', cwd=place)
    programs = place / 'venv' / 'bin'
    pip = [programs / 'python', '-m', 'pip', 'install', '-q']
    # Without the pin of setuptools, which openxlab contradicts.
    pins = (root / 'constraints.txt').read_text().splitlines()
    constraints = place / 'constraints.txt'
    kept = [pin for pin in pins if not pin.startswith(('#', 'setuptools'))]
    constraints.write_text('\n'.join(kept))
    (torch,) = (pin for pin in kept if pin.startswith('torch=='))
    run(*pip, torch, cwd=place)
    run(*pip, '-c', constraints, f'{wheel}[mm]', cwd=place)
    run(*pip, 'openmim==0.3.9', cwd=place)
    return programs


def test_mim_trains_and_tests_from_the_wheel(environment, tmp_path) -> None:
    mim = environment / 'mim'
    train = [mim, 'train', 'mmfaseg', CONFIG, '--gpus', 0]
    options = ['--work-dir', 'run', '--cfg-options', *QUICK]
    printed = run(*train, *options, cwd=tmp_path)
    assert 'Training finished successfully.' in printed
    assert str(environment.parent / 'lib') in printed  # not the checkout
    assert 'mmfaseg runs on the openmmlab stack' in printed
    checkpoint = tmp_path / 'run' / 'iter_2.pth'
    assert checkpoint.is_file()

    test = [mim, 'test', 'mmfaseg', CONFIG, '--checkpoint', checkpoint]
    options = ['--work-dir', 'test', '--cfg-options', *QUICK]
    printed = run(*test, '--gpus', 0, *options, cwd=tmp_path)
    assert 'Testing finished successfully.' in printed
    (metrics,) = (tmp_path / 'test').glob('*/*.json')
    assert 0 <= json.loads(metrics.read_text())['mIoU'] <= 100
