"""The metafiles that mim reads, and the installed wheel under mim.

mim has its own environment: openmim requires openxlab, which pins a version
of setuptools that PyTorch does not support.
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
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


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


METAFILES = {name: load(name) for name in load('model-index.yml')['Import']}
MODELS = [model for file in METAFILES.values() for model in file['Models']]


def test_model_names_and_metadata_can_be_searched() -> None:
    collections = [
        collection['Name']
        for file in METAFILES.values()
        for collection in file['Collections']
    ]
    for model in MODELS:
        name, metadata = model['Name'], model['Metadata']
        # mim lowers the case of the search term, but not of the names
        assert name == name.lower()
        assert Path(model['Config']).stem == name
        assert (ROOT / model['Config']).is_file(), name
        assert collections.count(model['In Collection']) == 1, name
        assert isinstance(metadata['Training Data'], str), name
        assert isinstance(metadata['Batch Size'], int), name
        # a unit would be part of the field name, which no condition accepts
        assert not [key for key in metadata if '(' in key], name
        # mim reads the first entry of a list
        assert [] not in metadata.values(), name
        for result in model['Results']:
            assert isinstance(result['Task'], str), name
            assert result['Dataset'] == metadata['Training Data'], name
            for value in result['Metrics'].values():
                assert isinstance(value, int | float), name


def test_model_names_are_unique() -> None:
    names = [model['Name'] for model in MODELS]
    assert sorted(names) == sorted(set(names))


def run(
    *command: object, cwd: Path, timeout: float = 900, check: bool = True
) -> str:
    """Runs a program outside of the checkout and returns its output."""
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
    if check:
        assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope='module')
def environment(wheel: Path, tmp_path_factory) -> Path:
    """Returns the bin folder of an environment with mim and the wheel.

    It imports the other packages from the environment of this test.
    """
    folder = tmp_path_factory.mktemp('mim')
    run(sys.executable, '-m', 'venv', folder / 'venv', cwd=folder)
    python = folder / 'venv' / 'bin' / 'python'
    (site,) = (folder / 'venv').glob('lib/python*/site-packages')
    # .pth files there are not read, so that no editable mmfaseg is found
    (site / 'packages.pth').write_text(sysconfig.get_path('purelib'))
    pip = [python, '-m', 'pip', 'install', '-q']
    run(*pip, '--no-deps', '--force-reinstall', wheel, cwd=folder)
    run(*pip, 'openmim==0.3.9', cwd=folder)
    return python.parent


@pytest.mark.slow
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


@pytest.mark.slow
def test_mim_trains_with_two_processes(environment, tmp_path) -> None:
    """Without a GPU; ``--gpus`` counts processes."""
    checkpoint = tmp_path / 'run' / 'iter_2.pth'
    both = ['--launcher', 'pytorch', '--gpus', 2]
    options = ['--cfg-options', *QUICK]
    train = [environment / 'mim', 'train', 'mmfaseg', CONFIG, *both]
    printed = run(*train, '--work-dir', 'run', *options, cwd=tmp_path)
    assert 'Distributed training: True' in printed
    assert 'GPU number: 2' in printed
    # each validates one of the two images; only rank 0 logs
    assert printed.count('Iter(val) [1/1]') == 1
    assert checkpoint.is_file()

    test = [environment / 'mim', 'test', 'mmfaseg', CONFIG, *both]
    where = ['--checkpoint', checkpoint, '--work-dir', 'test']
    printed = run(*test, *where, *options, cwd=tmp_path)
    assert printed.count('Iter(test) [1/1]') == 1


@pytest.mark.slow
def test_mim_runs_other_tools(environment, tmp_path) -> None:
    command = [environment / 'mim', 'run', 'mmfaseg']
    done = run(*command, 'get_flops', CONFIG, cwd=tmp_path, check=False)
    assert CONFIG in done  # tools take paths; the error names the config
    name = Path(CONFIG).stem
    down = [environment / 'mim', 'download', 'mmfaseg', '--config', name]
    run(*down, '--dest', '.', cwd=tmp_path)
    printed = run(*command, 'get_flops', CONFIG, cwd=tmp_path)
    assert 'parameters' in printed.lower()
    quick = 'train_dataloader.dataset.length=4'
    options = ['--cfg-options', quick]
    printed = run(*command, 'check_dataset', CONFIG, *options, cwd=tmp_path)
    assert '0 errors' in printed


@pytest.mark.slow
def test_mim_search_finds_the_models(environment, tmp_path) -> None:
    found = tmp_path / 'found.json'
    command = [environment / 'mim', 'search', 'mmfaseg', '--json', found]
    run(*command, cwd=tmp_path)
    configs = json.loads(found.read_text())['config']
    assert configs == {model['Name']: model['Config'] for model in MODELS}


@pytest.mark.slow
def test_mim_downloads_a_config_without_weights(environment, tmp_path) -> None:
    name = Path(CONFIG).stem
    command = [environment / 'mim', 'download', 'mmfaseg', '--config', name]
    printed = run(*command, '--dest', 'there', cwd=tmp_path)
    assert f'Successfully dumped {name}.py' in printed
    (written,) = (tmp_path / 'there').iterdir()  # no weights are published
    config = run(
        environment / 'python',
        '-c',
        'from mmengine.config import Config; '
        f'print(Config.fromfile({str(written)!r}).model.decode_head.type)',
        cwd=tmp_path,
    )
    assert config.splitlines()[-1] == 'mmfaseg.FASegHead'


@pytest.mark.slow
def test_model_index_has_no_errors(environment, tmp_path) -> None:
    printed = run(
        environment / 'python',
        '-c',
        'from pathlib import Path; import mmfaseg; '
        'from modelindex.load_model_index import load; '
        "index = Path(mmfaseg.__file__).parent / '.mim' / 'model-index.yml'; "
        'print(load(str(index)).check(silent=True))',
        cwd=tmp_path,
    )
    assert printed.splitlines()[-1] == '[]'
