"""Sharded training with two processes equals DDP."""

import json
import os

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from processes import launch
from torch.distributed.fsdp import FSDPModule

from mmfaseg.checkpoints import read_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(FSDPModule, 'set_reshard_after_forward'),
        reason='this PyTorch is too old',
    ),
]
CONFIG = 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
SHARDED = 'configs/_base_/strategies/fully_shard.py'
ITERATIONS = 4

PARTS = '''
from mmcv.transforms import BaseTransform, Resize
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS

@TRANSFORMS.register_module()
class WidenSome(BaseTransform):
    """Makes images of the second process larger, for more windows."""
    def transform(self, results):
        if results['sample_idx'] % 2:
            labels = results.pop('gt_seg_map')
            results = Resize(scale=(320, 128))(results)
            results['gt_seg_map'] = labels
        return results

@HOOKS.register_module()
class CountHook(Hook):
    """Logs the fraction of local parameters after each iteration."""
    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        own = [getattr(x, 'to_local', lambda x=x: x)().numel()
               for x in runner.model.parameters()]
        both = [x.numel() for x in runner.model.parameters()]
        share = sum(own) / sum(both)
        runner.logger.info(f'{share:.2f} of the parameters')

@HOOKS.register_module()
class PoisonHook(Hook):
    """Inserts a non-finite value in the second process."""
    def __init__(self, what):
        self.what = what
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.rank != 1 or runner.iter != 1:
            return
        if self.what == 'image':
            data_batch['inputs'][0] = data_batch['inputs'][0] * float('nan')
        else:
            backward = runner.optim_wrapper.backward

            def poisoned(loss, **kwargs):
                backward(loss, **kwargs)
                first = next(runner.model.parameters()).grad
                first.to_local().view(-1)[0] = float('nan')

            runner.optim_wrapper.backward = poisoned
'''


@pytest.fixture(scope='module')
def folder(root, tmp_path_factory):
    """Initial weights, as runners consume random numbers differently."""
    folder = tmp_path_factory.mktemp('sharded')
    (folder / 'parts.py').write_text(PARTS)
    cfg = Config.fromfile(root / CONFIG)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    torch.save(MODELS.build(cfg.model).state_dict(), folder / 'start.pth')
    return folder


@pytest.fixture(scope='module')
def train(root, folder):
    """Runs tools/train.py; returns the work dir and the process."""

    def train(name, *options, is_sharded=True, poison=None):
        cfg = Config.fromfile(root / CONFIG)
        if is_sharded:
            cfg.merge_from_dict(Config.fromfile(root / SHARDED).to_dict())
        cfg.train_cfg.update(max_iters=ITERATIONS, val_interval=2)
        quick = dict(num_workers=0, persistent_workers=False)
        cfg.train_dataloader.update(batch_size=2, **quick)
        cfg.val_dataloader.update(quick)
        cfg.val_dataloader.dataset.length = 4
        cfg.test_dataloader.dataset.length = 4
        cfg.default_hooks.checkpoint.interval = 2
        cfg.default_hooks.logger.interval = 1
        cfg.load_from = str(folder / 'start.pth')
        cfg.custom_hooks = [
            dict(type='mmfaseg.FocusHook', indices=[0]),
            dict(type='mmfaseg.ValidationLossHook'),
            dict(type='mmfaseg.NonFiniteHook'),
            dict(type='CountHook'),
        ]
        cfg.custom_imports.imports.append('parts')
        cfg.model.test_cfg = dict(
            mode='slide', crop_size=(128, 128), stride=(96, 96)
        )
        cfg.val_dataloader.dataset.pipeline.insert(1, dict(type='WidenSome'))
        if poison:
            cfg.custom_hooks.append(dict(type='PoisonHook', what=poison))
        path = folder / f'{name}.py'
        cfg.dump(str(path))
        done = launch(
            f'{root}{os.pathsep}{folder}',
            2,
            root / 'tools/train.py',
            *(path, '--launcher', 'pytorch', '--no-check', '--seed', '5'),
            *('--work-dir', folder / name, *options),
        )
        return folder / name, done

    return train


@pytest.fixture(scope='module')
def ddp(train):
    """The work dir of DDP training."""
    work_dir, done = train('ddp', is_sharded=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count('1.00 of the parameters') == ITERATIONS
    return work_dir


@pytest.fixture(scope='module')
def sharded(train):
    work_dir, done = train('sharded')
    assert done.returncode == 0, done.stdout
    assert done.stdout.count('0.50 of the parameters') == ITERATIONS
    return work_dir


def load(work_dir, iteration=ITERATIONS):
    return read_checkpoint(work_dir / f'iter_{iteration}.pth')


def logged(work_dir):
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [row for row in rows if 'grad_norm' in row]
    assert len(rows) == ITERATIONS
    return rows


def tensors_of(checkpoint):
    """Returns weights and optimizer states by name."""
    tensors = {
        key: value
        for key, value in checkpoint['state_dict'].items()
        if 'running' not in key and 'num_batches' not in key
    }
    for number, values in checkpoint['optimizer']['state'].items():
        for name in ('exp_avg', 'exp_avg_sq'):
            tensors[f'{name}.{number}'] = values[name]
    return tensors


def differences(one, other, start):
    """Returns the relative differences of weights and optimizer states.

    Differences of weights are relative to their distance from the start.
    Single values cannot be compared: Adam amplifies rounding errors of small
    gradients.
    """
    start = torch.load(start, weights_only=True)
    one, other = tensors_of(one), tensors_of(other)
    assert one.keys() == other.keys()
    sums = {}
    for name, value in one.items():
        assert value.shape == other[name].shape
        kind = name.partition('.')[0] if 'exp_avg' in name else 'weight'
        change = value - start[name] if name in start else value
        pair = sums.setdefault(kind, [0, 0])
        pair[0] += (value - other[name]).double().square().sum().item()
        pair[1] += change.double().square().sum().item()
    assert len(sums) == 3
    return [(x / y) ** 0.5 for x, y in sums.values()]


def test_checkpoint_holds_full_state(ddp, sharded, folder):
    """As that of DDP, which can therefore resume from it.

    Also: uneven numbers of forward passes do not deadlock.
    """
    for iteration, limit in ((2, 1e-4), (4, 2e-2)):
        one, other = load(sharded, iteration), load(ddp, iteration)
        assert max(differences(one, other, folder / 'start.pth')) < limit
        for group, twin in zip(
            one['optimizer'].pop('param_groups'),
            other['optimizer'].pop('param_groups'),
            strict=True,
        ):
            assert group == twin
        assert one['param_schedulers'] == other['param_schedulers']
        assert one['optimizer'].keys() == other['optimizer'].keys()
        assert one['meta'].keys() == other['meta'].keys()
    names = [path.name for path in sharded.iterdir()]
    assert not [x for x in names if 'part' in x]
    assert any(x.startswith('best_mIoU') for x in names)


def test_losses_and_gradients_equal_ddp(ddp, sharded):
    """Gradient clipping would hide a constant factor in the weights."""
    for one, other in zip(logged(sharded), logged(ddp), strict=True):
        for name in ('loss', 'grad_norm'):
            assert one[name] == pytest.approx(other[name], rel=1e-3), name
    assert one['grad_norm'] > 1  # clipped


def test_checkpoint_is_tested_by_one_process(sharded, root, folder):
    """tools/test.py ignores the strategy of the config."""
    done = launch(
        f'{root}{os.pathsep}{folder}',
        1,
        root / 'tools/test.py',
        *(f'{sharded}.py', sharded / 'iter_4.pth', '--no-check'),
        *('--work-dir', folder / 'tested'),
    )
    assert done.returncode == 0, done.stdout
    assert 'mIoU: ' in done.stdout


def test_resumed_run_is_bitwise_equal(train, sharded):
    """From a full checkpoint to two shards."""
    middle = str(sharded / 'iter_2.pth')
    work_dir, done = train('resumed', '--resume', middle)
    assert done.returncode == 0, done.stdout
    assert 'resumed epoch: 0, iter: 2' in done.stdout
    one, other = tensors_of(load(work_dir)), tensors_of(load(sharded))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize(
    ('what', 'said'),
    [
        ('image', 'the images of the batch are not finite'),
        ('gradient', 'the gradient of backbone.conv1.weight is not finite'),
    ],
)
def test_non_finite_values_on_one_process_do_not_deadlock(train, what, said):
    _, done = train(what, poison=what)
    assert done.returncode != 0
    assert 'NonFiniteError: iteration 2: the ' in done.stdout
    assert said in done.stdout
