"""Interrupted and resumed training."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import FileClient, LocalBackend, get_file_backend
from mmengine.fileio.backends.registry_utils import prefix_to_backends
from mmengine.hooks import EMAHook
from mmengine.runner.checkpoint import save_checkpoint

from mmfaseg.checkpoints import find_latest_checkpoint
from mmfaseg.engine import ExactResumeHook, SafeCheckpointHook
from mmfaseg.engine.atomic_backend import ATOMIC

CONFIG = 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'


def draws():
    return random.random(), np.random.rand(), torch.rand(1).item()


# random numbers


def runner_at(number, seed=3):
    loop = SimpleNamespace(dataloader_iterator=iter(range(100)))
    return SimpleNamespace(iter=number, seed=seed, train_loop=loop)


def test_random_numbers_depend_on_seed_and_iteration():
    hook = ExactResumeHook()

    def at(number, seed=3):
        draws()  # changes the state
        hook.before_train_iter(runner_at(number, seed), 0)
        return draws()

    assert at(7) == at(7)
    assert len({at(7), at(8), at(7, seed=4), at(0)}) == 4


def test_every_batch_has_its_own_seed():
    hook, runner = ExactResumeHook(), runner_at(0)
    hook.before_train(runner)
    hook.before_train(runner)  # a second call has no effect
    straight = [(next(runner.train_loop.dataloader_iterator), draws())]
    for _ in range(3):
        draws()
        batch = next(runner.train_loop.dataloader_iterator)
        straight.append((batch, draws()))
    assert [batch for batch, _ in straight] == [0, 1, 2, 3]

    resumed = runner_at(2)
    hook.before_train(resumed)
    batches = resumed.train_loop.dataloader_iterator
    next(batches), next(batches)  # skipped by mmengine
    assert [(next(batches), draws()) for _ in range(2)] == straight[2:]


def test_skipped_batches_are_counted():
    """The loop of OneDL's mmengine skips batches with ``skip_iter``."""
    hook, straight, resumed = ExactResumeHook(), runner_at(0), runner_at(3)
    for runner in (straight, resumed):
        hook.before_train(runner)
    batches = straight.train_loop.dataloader_iterator
    for _ in range(3):
        next(batches)
    resumed.train_loop.dataloader_iterator.skip_iter(3)
    expected = next(batches), draws()
    found = next(resumed.train_loop.dataloader_iterator), draws()
    assert found == expected
    assert found[0] == 3


def test_processes_draw_different_numbers(monkeypatch):
    hook = ExactResumeHook()
    found = set()
    for rank in range(3):
        name = 'mmfaseg.engine.hooks.exact_resume_hook.get_rank'
        monkeypatch.setattr(name, lambda rank=rank: rank)
        hook.before_train_iter(runner_at(1), 0)
        found.add(draws())
    assert len(found) == 3


# files


def test_atomic_files_are_complete_and_readable(tmp_path):
    backend = get_file_backend(backend_args=dict(backend=ATOMIC))
    path = tmp_path / 'new' / 'a.pth'
    backend.put(b'one', path)
    backend.put(b'two', path)
    backend.put_text('äöü', path.with_suffix('.txt'))
    assert path.read_bytes() == b'two'
    assert path.with_suffix('.txt').read_text('utf-8') == 'äöü'
    ordinary = tmp_path / 'ordinary'
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode
    assert len(list(path.parent.iterdir())) == 2


def test_full_disk_keeps_the_old_file(tmp_path):
    """With a limit of the file size in a forked process."""
    backend = get_file_backend(backend_args=dict(backend=ATOMIC))
    path = tmp_path / 'iter_4.pth'
    backend.put(b'good', path)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        try:
            backend.put(bytes(1 << 20), path)
        except OSError as error:
            is_clear = 'cannot write 1 MiB' in str(error)
            is_clear &= 'continue with --resume' in str(error)
            os._exit(0 if is_clear and error.errno == errno.EFBIG else 2)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.read_bytes() == b'good'
    assert [x.name for x in tmp_path.iterdir()] == ['iter_4.pth']


def test_other_write_errors_propagate(tmp_path):
    backend = get_file_backend(backend_args=dict(backend=ATOMIC))
    (tmp_path / 'folder').mkdir()
    with pytest.raises(IsADirectoryError):
        backend.put(b'x', tmp_path / 'folder')
    assert [x.name for x in tmp_path.iterdir()] == ['folder']


# latest checkpoint


@pytest.fixture
def work_dir(tmp_path):
    for n in (2, 4, 10):
        torch.save({'iter': n}, tmp_path / f'iter_{n}.pth')
    torch.save({}, tmp_path / 'best_mIoU_iter_12.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_4.pth'))
    return tmp_path


def test_last_checkpoint_file_takes_precedence(work_dir):
    assert find_latest_checkpoint(work_dir) == str(work_dir / 'iter_4.pth')


def test_invalid_last_checkpoint_file_is_ignored(work_dir):
    pointer = work_dir / 'last_checkpoint'
    for text in ('', '/nowhere/iter_99.pth', str(work_dir)):
        pointer.write_text(text)
        found = find_latest_checkpoint(work_dir)
        assert found == str(work_dir / 'iter_10.pth')
    pointer.unlink()
    found = find_latest_checkpoint(work_dir)
    assert found == str(work_dir / 'iter_10.pth')


def test_copied_work_dir_resumes_from_its_own_files(work_dir, tmp_path):
    """Absolute, missing and relative paths in last_checkpoint."""
    pointer = work_dir / 'last_checkpoint'
    other = tmp_path / 'other'
    other.mkdir()
    torch.save({}, other / 'iter_2.pth')
    for text in (other / 'iter_2.pth', '/elsewhere/iter_2.pth', 'iter_2.pth'):
        pointer.write_text(str(text))
        found = find_latest_checkpoint(work_dir)
        assert found == str(work_dir / 'iter_2.pth')
    (work_dir / 'iter_2.pth').unlink()
    pointer.write_text(str(other / 'iter_2.pth'))
    found = find_latest_checkpoint(work_dir)
    assert found == str(other / 'iter_2.pth')


def test_binary_last_checkpoint_file_is_ignored(work_dir):
    (work_dir / 'last_checkpoint').write_bytes(b'\xff\xfe\0\0')
    found = find_latest_checkpoint(work_dir)
    assert found == str(work_dir / 'iter_10.pth')


def test_truncated_checkpoints_are_skipped(work_dir):
    for n in (4, 10):
        path = work_dir / f'iter_{n}.pth'
        path.write_bytes(path.read_bytes()[:-40])
    assert find_latest_checkpoint(work_dir) == str(work_dir / 'iter_2.pth')


def test_only_broken_checkpoints_raise(work_dir, tmp_path):
    for n in (2, 4, 10):
        (work_dir / f'iter_{n}.pth').write_bytes(b'')
    with pytest.raises(ValueError, match=r'no checkpoint in .* is complete'):
        find_latest_checkpoint(work_dir)
    empty = tmp_path / 'empty'
    empty.mkdir()
    assert find_latest_checkpoint(empty) is None


# checkpoints of killed runs


def make_runner(folder, number):
    """Returns the parts of a runner that the hook uses, with a 4 MB model."""
    model = torch.nn.Linear(1000, 1000)
    torch.nn.init.constant_(model.weight, number)
    info = {}
    hub = SimpleNamespace(
        runtime_info=info,
        update_info=info.__setitem__,
        get_info=info.__getitem__,
    )

    def save(out_dir, filename, *_, meta=None, backend_args=None, **__):
        content = dict(state_dict=model.state_dict(), meta=meta)
        path = os.path.join(out_dir, filename)
        save_checkpoint(content, path, backend_args=backend_args)

    return SimpleNamespace(
        **dict(work_dir=str(folder), iter=number - 1, epoch=0),
        **dict(max_iters=10**9, message_hub=hub, save_checkpoint=save),
        logger=SimpleNamespace(info=str, warning=str),
    )


def make_hook(runner, keep):
    hook = SafeCheckpointHook(
        interval=1,
        by_epoch=False,
        max_keep_ckpts=keep,
        save_best='mIoU',
        rule='greater',
    )
    hook.before_train(runner)
    hook.keep_ckpt_ids.extend(
        sorted(
            int(x.stem.split('_')[1])
            for x in (runner.work_dir_path).glob('iter_*.pth')
        )[-keep:]
    )
    return hook


def train(folder, number, keep, steps):
    """Saves a checkpoint and a best checkpoint in each step."""
    runner = make_runner(folder, number)
    runner.work_dir_path = folder
    hook = make_hook(runner, keep)
    for step in range(number, number + steps):
        runner.iter = step - 1
        hook.after_train_iter(runner, 0)
        runner.iter = step
        hook.after_val_epoch(runner, {'mIoU': float(step)})


def test_outdated_checkpoints_are_removed(tmp_path):
    train(tmp_path, 1, keep=1, steps=4)
    names = {x.name for x in tmp_path.iterdir()}
    assert names == {'iter_4.pth', 'best_mIoU_iter_4.pth', 'last_checkpoint'}


@pytest.mark.parametrize('keep', [1, 2])
def test_checkpoint_is_removed_after_the_next_is_written(
    tmp_path, monkeypatch, keep
):
    """With a disk that is full from the third checkpoint on."""
    train(tmp_path, 1, keep, steps=2)
    before = {x.name: x.read_bytes() for x in tmp_path.iterdir()}

    def fail(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match=r'cannot write 4 MiB to .*iter_3\.pth'):
        train(tmp_path, 3, keep, steps=1)
    assert {x.name: x.read_bytes() for x in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_killed_process_leaves_a_valid_checkpoint(tmp_path):
    """Up to 100 times; each run resumes from the previous one."""
    torch.set_num_threads(1)
    start = time.monotonic()
    train(tmp_path, 1, keep=1, steps=4)
    pause = (time.monotonic() - start) / 4  # for a checkpoint and a best one
    chance = random.Random(0)
    reached, cut = 4, 0
    for _ in range(100):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writer, b'.')
                train(tmp_path, reached + 1, keep=1, steps=10**6)
            finally:
                os._exit(1)
        os.read(reader, 1)  # the process has started
        time.sleep(chance.uniform(0, 3 * pause))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader), os.close(writer)
        content = torch.load(find_latest_checkpoint(tmp_path))
        number = content['meta']['iter']
        assert number >= reached
        reached = number
        cut += bool(list(tmp_path.glob('.*.part*')))
        for path in tmp_path.glob('[!.]*.pth'):
            torch.load(path)
        if cut > 10 and reached > 50:
            break
    assert cut > 2  # processes were killed while writing
    train(tmp_path, reached + 1, keep=1, steps=1)
    assert not list(tmp_path.glob('.*'))  # temporary files are removed


def test_remote_files_are_written_by_mmengine(tmp_path, monkeypatch):
    """The backend depends on the prefix of the folder."""

    class Elsewhere(LocalBackend):
        pass

    monkeypatch.setitem(prefix_to_backends, 's3', Elsewhere)
    monkeypatch.setattr(FileClient, 'infer_client', lambda *_: None)
    runner = make_runner(tmp_path, 1)
    hook = SafeCheckpointHook(interval=1, out_dir='s3://bucket/runs')
    hook.before_train(runner)
    assert type(hook.file_backend) is Elsewhere
    assert hook.backend_args is None
    hook = SafeCheckpointHook(interval=1, backend_args=dict(backend='local'))
    hook.before_train(runner)
    assert type(hook.file_backend) is LocalBackend


def test_validation_without_training_needs_no_files(tmp_path):
    hook = SafeCheckpointHook(interval=1, by_epoch=False)
    hook.after_val_epoch(make_runner(tmp_path, 1), {'mIoU': 1.0})


# whole runs


@pytest.fixture
def run(root, tmp_path):
    """Runs tools/train.py in a subprocess."""
    (tmp_path / 'kill_hook.py').write_text(KILL)
    path = os.pathsep.join([str(root), str(tmp_path)])

    def run(folder, iterations, workers, *arguments):
        cfg = Config.fromfile(root / CONFIG)
        cfg.train_cfg.update(max_iters=6, val_interval=2)
        loading = dict(num_workers=workers, persistent_workers=workers > 0)
        cfg.train_dataloader.update(batch_size=2, **loading)
        cfg.val_dataloader.update(loading)
        cfg.val_dataloader.dataset.length = 2
        cfg.default_hooks.checkpoint.interval = 3
        cfg.custom_hooks = [
            dict(type='EMAHook'),
            dict(type='mmfaseg.ValidationLossHook'),
        ]
        if iterations < 6:
            cfg.custom_hooks.append(dict(type='KillHook', at=iterations))
            cfg.custom_imports.imports.append('kill_hook')
        cfg.dump(str(tmp_path / f'{folder}.py'))
        done = subprocess.run(
            [
                *(sys.executable, root / 'tools/train.py', f'{folder}.py'),
                *('--no-check', '--work-dir', folder, *arguments),
            ],
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        expected = 0 if iterations == 6 else -signal.SIGKILL
        assert done.returncode == expected, done.stdout

    return run


KILL = '''
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class KillHook(Hook):
    """Kills the process after some iterations."""
    def __init__(self, at):
        self.at = at
    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter + 1 == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_resumed_run_is_bitwise_equal(run, tmp_path, workers):
    """Killed after five of six iterations, with a checkpoint of three."""
    run('straight', 6, workers, '--seed', '11')
    run('killed', 5, workers, '--seed', '11')
    assert not (tmp_path / 'killed/iter_6.pth').exists()
    run('killed', 6, workers, '--resume')  # with the seed of the checkpoint
    assert_same(tmp_path, 'straight', 'killed')


@pytest.mark.slow
def test_runs_with_equal_seed_are_bitwise_equal(run, tmp_path):
    options = ['--cfg-options', 'randomness.deterministic=True']
    run('first', 6, 2, '--seed', '11', *options)
    run('second', 6, 2, '--seed', '11', *options)
    assert_same(tmp_path, 'first', 'second')


def assert_same(folder, *names):
    """Compares weights, averages, optimizer states and schedules."""
    one, two = (
        torch.load(folder / name / 'iter_6.pth', weights_only=True)
        for name in names
    )
    for part in ('state_dict', 'ema_state_dict'):
        assert one[part].keys() == two[part].keys()
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), name
    states = [x['optimizer']['state'] for x in (one, two)]
    for number, state in states[0].items():
        for name, value in state.items():
            assert torch.equal(value, states[1][number][name])
    assert one['param_schedulers'] == two['param_schedulers']
    assert EMAHook.__name__ in one['meta']['cfg']
