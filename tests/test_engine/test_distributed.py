"""Distributed training equals training in a single process.

tests/distributed_worker.py trains in float64, so that differences other than
rounding errors are visible.
"""

import json
import os

import pytest
import torch
from mmengine.config import Config
from processes import launch

pytestmark = pytest.mark.slow
CONFIG = 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'


@pytest.fixture(scope='module')
def train(root, tmp_path_factory):
    """Returns losses and final weights of 8 iterations."""
    folder = tmp_path_factory.mktemp('distributed')

    def train(processes):
        out = folder / str(processes)
        done = launch(
            root,
            processes,
            root / 'tests/distributed_worker.py',
            *(root / CONFIG, out),
        )
        assert done.returncode == 0, done.stdout
        return (
            json.loads(out.with_suffix('.json').read_text()),
            torch.load(out.with_suffix('.pth'), weights_only=True),
        )

    return train


@pytest.fixture(scope='module')
def single(train):
    """Losses and final weights of a single process."""
    return train(1)


@pytest.mark.parametrize('processes', [2, 4])
def test_distributed_training_equals_single_process(train, single, processes):
    """Also if the first of four processes has no labeled pixels."""
    history, weights = single
    shared, others = train(processes)
    assert len(history) == len(shared) == 8
    for one, other in zip(history, shared, strict=True):
        assert one.keys() == other.keys() and len(one) > 10
        for name, value in one.items():
            if 'loss' in name:  # accuracies are in float32
                assert other[name] == pytest.approx(value, rel=1e-9), name
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=0, atol=1e-9)


FAIL_ONCE = '''
import os
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class FailOnceHook(Hook):
    """Ends one process, but not after a restart."""
    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        first = os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'
        if first and runner.rank == 1 and runner.iter == 2:
            os._exit(9)
'''


def test_training_resumes_after_torchrun_restart(root, tmp_path):
    """Resumes from the checkpoint after two of four iterations."""
    (tmp_path / 'fail_once.py').write_text(FAIL_ONCE)
    cfg = Config.fromfile(root / CONFIG)
    cfg.train_cfg.update(max_iters=4, val_interval=4)
    quick = dict(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.update(batch_size=2, **quick)
    cfg.val_dataloader.update(quick)
    cfg.val_dataloader.dataset.length = 2
    cfg.default_hooks.checkpoint.interval = 2
    cfg.custom_imports.imports.append('fail_once')
    weights = []
    for name, restarts in (('failing', 1), ('straight', 0)):
        cfg.custom_hooks = [dict(type='FailOnceHook')] * restarts
        cfg.dump(str(tmp_path / f'{name}.py'))
        done = launch(
            f'{root}{os.pathsep}{tmp_path}',
            2,
            root / 'tools/train.py',
            *(tmp_path / f'{name}.py', '--launcher', 'pytorch', '--no-check'),
            *('--resume', '--seed', '5', '--work-dir', tmp_path / name),
            options=['--max-restarts=1'],
        )
        assert done.returncode == 0, done.stdout
        assert ('resumed epoch: 0, iter: 2' in done.stdout) == bool(restarts)
        path = tmp_path / name / 'iter_4.pth'
        weights.append(torch.load(path, weights_only=True)['state_dict'])
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
