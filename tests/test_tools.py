import importlib.util
import json
import os
import subprocess
from pathlib import Path
from types import ModuleType

import mmcv
import numpy as np
import pytest

CONFIG = Path(__file__).parent / 'configs' / 'fcn_shapes.py'
TOOLS = Path(__file__).parent.parent / 'tools'


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config_of(tool: str, *arguments: object):
    module = load_tool(tool)
    return module.load_config(
        module.parse_args([str(CONFIG), *map(str, arguments)])
    )


@pytest.fixture(autouse=True)
def _no_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    # The tools set it; undone after each test only if it is known here.
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.delenv('LOCAL_RANK')


@pytest.fixture(scope='module')
def trained(tmp_path_factory, run_python) -> tuple[Path, str]:
    """The work dir of two iterations on one CPU, and what was printed.

    The config has SyncBN, with which one process cannot train.
    """
    work_dir = tmp_path_factory.mktemp('trained')
    command = [TOOLS / 'train.py', CONFIG, '--work-dir', work_dir]
    return work_dir, run_python(*command, '--seed', 3).stdout


@pytest.mark.smoke
def test_training_writes_log_and_checkpoint(trained) -> None:
    work_dir, printed = trained
    assert 'Iter(train) [2/2]' in printed
    assert (work_dir / 'iter_2.pth').is_file()
    (log,) = work_dir.glob('*/*.log')
    for text in (printed, log.read_text()):
        assert text.count('mmfaseg runs on') == 1


@pytest.mark.smoke
def test_resume_continues_the_run(trained, run_python) -> None:
    work_dir, _ = trained
    command = [TOOLS / 'train.py', CONFIG, '--work-dir', work_dir, '--resume']
    printed = run_python(
        *command, '--cfg-options', 'train_cfg.max_iters=4'
    ).stdout
    assert 'Iter(train) [3/4]' in printed
    assert 'Iter(train) [4/4]' in printed
    assert 'Iter(train) [1/4]' not in printed
    assert 'Iter(train) [2/4]' not in printed
    assert (work_dir / 'iter_4.pth').is_file()


@pytest.mark.smoke
def test_testing_measures_draws_and_writes(
    trained, tmp_path, run_python
) -> None:
    drawn, labels = tmp_path / 'drawn', tmp_path / 'labels'
    run_python(
        TOOLS / 'test.py',
        CONFIG,
        trained[0] / 'iter_2.pth',
        *('--work-dir', tmp_path / 'logs'),
        *('--show-dir', drawn),
        *('--out', labels),
    )
    (metrics,) = (tmp_path / 'logs').glob('*/*.json')
    assert 0 <= json.loads(metrics.read_text())['mIoU'] <= 100
    assert len(list(drawn.glob('vis_data/vis_image/*.png'))) == 2
    pictures = [mmcv.imread(p, 'unchanged') for p in labels.glob('*.png')]
    assert [picture.shape for picture in pictures] == [(32, 32)] * 2
    assert np.max(pictures) < 7


def test_testing_augments(trained, tmp_path, run_python) -> None:
    checkpoint = trained[0] / 'iter_2.pth'
    command = [TOOLS / 'test.py', CONFIG, checkpoint, '--tta']
    assert 'mIoU' in run_python(*command, '--work-dir', tmp_path).stdout


def test_work_dir_follows_the_config_by_default() -> None:
    assert config_of('train').work_dir == 'work_dirs/fcn_shapes'
    cfg = config_of('train', '--cfg-options', 'work_dir=here')
    assert cfg.work_dir == 'here'
    cfg = config_of('test', 'a.pth', '--work-dir', 'there')
    assert cfg.work_dir == 'there'


def test_cfg_options_reach_the_config() -> None:
    options = ['train_dataloader.batch_size=5', 'test_cfg.sizes=[(1,2),(3,4)]']
    cfg = config_of('train', '--cfg-options', *options)
    assert cfg.train_dataloader.batch_size == 5
    assert cfg.test_cfg.sizes == [(1, 2), (3, 4)]


@pytest.mark.parametrize('flag', ['--local-rank=1', '--local_rank=1'])
def test_local_rank_is_taken(flag: str) -> None:
    cfg = config_of('train', '--launcher', 'pytorch', flag)
    assert cfg.launcher == 'pytorch'
    assert os.environ['LOCAL_RANK'] == '1'


def test_local_rank_of_torchrun_wins(monkeypatch) -> None:
    monkeypatch.setenv('LOCAL_RANK', '3')
    config_of('test', 'a.pth', '--local-rank', '0')
    assert os.environ['LOCAL_RANK'] == '3'


def test_amp_switches_the_wrapper() -> None:
    wrapper = config_of('train', '--amp').optim_wrapper
    assert wrapper.type == 'AmpOptimWrapper'
    assert wrapper.loss_scale == 'dynamic'
    assert wrapper.optimizer.type == 'AdamW'
    set_before = ['optim_wrapper.type=AmpOptimWrapper']
    set_before.append('optim_wrapper.loss_scale=64')
    wrapper = config_of('train', '--amp', '--cfg-options', *set_before)
    assert wrapper.optim_wrapper.loss_scale == 64


def test_amp_refuses_another_wrapper() -> None:
    with pytest.raises(ValueError, match='ApexOptimWrapper'):
        config_of(
            'train',
            '--amp',
            '--cfg-options',
            'optim_wrapper.type=ApexOptimWrapper',
        )


def test_seed_keeps_other_randomness() -> None:
    cfg = config_of(
        'train', '--seed', 7, '--cfg-options', 'randomness.deterministic=True'
    )
    assert cfg.randomness == dict(seed=7, deterministic=True)


def test_resume_prefers_the_run_to_pretrained_weights(tmp_path) -> None:
    options = ['--work-dir', tmp_path, '--resume']
    pretrained = ['--cfg-options', 'load_from=pretrained.pth']
    cfg = config_of('train', *options, *pretrained)
    assert not cfg.get('resume', False)  # nothing to resume yet
    assert cfg.load_from == 'pretrained.pth'

    (tmp_path / 'last_checkpoint').write_text('iter_7.pth')
    cfg = config_of('train', *options, *pretrained)
    assert (cfg.resume, cfg.load_from) == (True, 'iter_7.pth')
    cfg = config_of('train', *options, 'iter_5.pth', *pretrained)
    assert (cfg.resume, cfg.load_from) == (True, 'iter_5.pth')


def test_show_dir_draws_every_picture() -> None:
    cfg = config_of('test', 'a.pth', '--show-dir', 'drawn')
    hook = cfg.default_hooks.visualization
    assert (hook.draw, hook.interval) == (True, 1)
    assert 'show' not in hook
    assert cfg.visualizer.save_dir == 'drawn'


def test_tta_wraps_the_model() -> None:
    cfg = config_of('test', 'a.pth', '--tta')
    assert cfg.model.type == 'SegTTAModel'
    assert cfg.model.module.type == 'EncoderDecoder'
    assert cfg.test_dataloader.dataset.pipeline == cfg.tta_pipeline


@pytest.mark.parametrize(
    ('flag', 'setting', 'message'),
    [
        ('--show', 'default_hooks.visualization=None', 'visualization'),
        ('--tta', None, 'tta_model and tta_pipeline'),
        ('--out=x', 'test_evaluator=[]', 'needs one metric'),
    ],
)
def test_impossible_wishes_are_refused(
    flag, setting, message, tmp_path
) -> None:
    module = load_tool('test')
    config = tmp_path / 'no_tta.py'
    text = CONFIG.read_text()
    config.write_text(text.replace('tta_', 'other_'))
    options = [] if setting is None else ['--cfg-options', setting]
    args = module.parse_args([str(config), 'a.pth', flag, *options])
    with pytest.raises(ValueError, match=message):
        module.load_config(args)


def run_script(
    script: str, *arguments: str, tmp_path: Path, **environment: str
) -> subprocess.CompletedProcess:
    """Run a shell script with programs that only write their arguments."""
    for program in ('python', 'srun'):
        path = tmp_path / program
        path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        path.chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    return subprocess.run(
        [str(TOOLS / script), *arguments],
        env={**os.environ, 'PATH': path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ('script', 'arguments', 'passed'),
    [
        ('dist_train.sh', ['c.py', '4'], ['train.py', 'c.py']),
        (
            'dist_test.sh',
            ['c.py', 'a b.pth', '4'],
            ['test.py', 'c.py', 'a b.pth'],
        ),
        ('slurm_train.sh', ['gpu', 'job', 'c.py'], ['train.py', 'c.py']),
        (
            'slurm_test.sh',
            ['gpu', 'job', 'c.py', 'a b.pth'],
            ['test.py', 'c.py', 'a b.pth'],
        ),
    ],
)
def test_scripts_pass_their_arguments(
    script, arguments, passed, tmp_path
) -> None:
    more = ['--cfg-options', 'a=[1, 2]']
    done = run_script(script, *arguments, *more, tmp_path=tmp_path, GPUS='4')
    lines = done.stdout.splitlines()
    launcher = 'slurm' if script.startswith('slurm') else 'pytorch'
    end = [*passed[1:], '--launcher', launcher, *more]
    assert lines[-len(end) :] == end, done.stderr
    assert lines[-len(end) - 1] == str(TOOLS / passed[0])
    count = '--ntasks=4' if launcher == 'slurm' else '--nproc_per_node=4'
    assert count in lines

    too_few = run_script(script, *arguments[:-1], tmp_path=tmp_path)
    assert too_few.returncode == 2
    assert too_few.stderr.startswith('usage: ')
