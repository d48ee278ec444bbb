import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mmfaseg

DEMO = 'faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
# mmfaseg comes last: functions of mmengine may be imported before it
SCRIPT = f"""
from mmengine.config import Config
from mmengine.hub import get_config, get_model
import mmfaseg

child = Config.fromfile('my config.py')
assert child.train_cfg.max_iters == 7
assert child.model == get_config('mmfaseg::{DEMO}').model
print(type(get_model('mmfaseg::{DEMO}')).__name__, mmfaseg.__file__)
"""
SHIPPED = (
    'tools/train.py',
    'tools/test.py',
    'demo/nuclei.png',
    'model-index.yml',
)


WITH_COMPILER = pytest.mark.skipif(
    shutil.which('c++') is None
    or tuple(map(int, torch.__version__.split('.')[:2])) < (2, 10),
    reason='the operators cannot be built here',
)


def setup(
    folder: Path, command: str, **settings: str
) -> subprocess.CompletedProcess:
    """Runs setup.py in a folder."""
    return subprocess.run(
        [sys.executable, 'setup.py', '-q', command],
        cwd=folder,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def copy_of(source: Path, target: Path) -> Path:
    """Copies the source without build outputs."""
    ignore = shutil.ignore_patterns('build', 'dist', '*.egg-info', '.mim')
    return shutil.copytree(source, target / 'copy', ignore=ignore)


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_wheel_contains_one_package(wheel: Path) -> None:
    info = f'mmfaseg-{mmfaseg.__version__}.dist-info'
    assert {name.split('/')[0] for name in names_in(wheel)} == {
        'mmfaseg',
        info,
    }
    with zipfile.ZipFile(wheel) as archive:
        top_level = archive.read(f'{info}/top_level.txt').decode()
    assert top_level.split() == ['mmfaseg']


@pytest.mark.slow
def test_wheel_contains_all_modules(wheel: Path, root: Path) -> None:
    modules = {
        path.relative_to(root).as_posix()
        for path in (root / 'mmfaseg').rglob('*.py')
        if '.mim' not in path.parts
    }
    assets = {
        path.relative_to(root).as_posix()
        for path in (root / 'mmfaseg/visualization/explorer/assets').iterdir()
    }
    assert len(assets) > 3
    weights = {
        path.relative_to(root).as_posix()
        for path in (root / 'mmfaseg/weights').glob('*.safetensors')
    }
    assert weights
    files = modules | assets | weights | {'mmfaseg/py.typed'}
    assert files <= names_in(wheel)


@pytest.mark.slow
def test_wheel_contains_the_files_of_mim(wheel: Path, root: Path) -> None:
    configs = {
        path.relative_to(root).as_posix()
        for path in (root / 'configs').rglob('*.py')
    }
    shipped = {f'mmfaseg/.mim/{name}' for name in configs.union(SHIPPED)}
    assert shipped <= names_in(wheel)
    assert not [name for name in names_in(wheel) if '__pycache__' in name]


@pytest.mark.slow
@WITH_COMPILER
def test_wheel_with_operators_supports_all_python_versions(
    wheel: Path,
) -> None:
    assert 'mmfaseg/_C.abi3.so' in names_in(wheel)
    assert '-cp310-abi3-' in wheel.name
    assert not [x for x in names_in(wheel) if x.endswith(('.cpp', '.cu'))]
    with zipfile.ZipFile(wheel) as archive:
        library = archive.read('mmfaseg/_C.abi3.so')
    assert str(Path.home()).encode() not in library


@pytest.mark.slow
def test_wheel_without_operators_supports_all_platforms(
    build, source, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv('MMFASEG_WITH_OPS', '0')
    wheel = build('wheel', copy_of(source, tmp_path), tmp_path / 'wheel')
    assert wheel.name.endswith('-py3-none-any.whl')
    assert not [x for x in names_in(wheel) if x.endswith('.so')]


@pytest.mark.slow
@WITH_COMPILER
def test_failing_build_raises(source, tmp_path) -> None:
    copy = copy_of(source, tmp_path)
    kernel = copy / 'mmfaseg/ops/csrc/cpu/hrca_kernel.cpp'
    kernel.write_text('no C++')
    done = setup(copy, 'bdist_wheel')
    assert done.returncode != 0
    assert 'hrca_kernel.cpp' in done.stdout
    assert not (copy / 'dist').exists()


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        ({'MMFASEG_WITH_OPS': '1', 'CXX': 'nowhere'}, "compiler 'nowhere'"),
        ({'FORCE_CUDA': '1', 'CUDA_HOME': '/nowhere'}, 'FORCE_CUDA=1, but'),
        ({'FORCE_CUDA': '1', 'CXX': 'nowhere'}, "compiler 'nowhere'"),
    ],
)
@WITH_COMPILER
def test_requested_operators_that_cannot_be_built_raise(
    root, setting, message
) -> None:
    done = setup(root, '--version', **setting)
    assert done.returncode != 0
    assert message in done.stdout


@pytest.mark.slow
def test_wheel_requires_no_openmmlab_packages(wheel: Path) -> None:
    """They would overwrite the OneDL forks."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (n for n in names_in(wheel) if n.endswith('/METADATA'))
        lines = archive.read(metadata).decode().splitlines()
    assert 'License-Expression: Apache-2.0' in lines
    wanted = [line for line in lines if line.startswith('Requires-Dist: ')]
    always = {
        re.split('[ <>=!~]', line.removeprefix('Requires-Dist: '))[0]
        for line in wanted
        if 'extra ==' not in line
    }
    assert {'torch', 'ftfy', 'numpy', 'scipy'} <= always
    assert not [name for name in always if 'mm' in name]
    assert any('mmcv-lite' in each and '"mm"' in each for each in wanted)
    assert any('mmcv<' in each and '"mim"' in each for each in wanted)
    assert any('onedl-mmcv' in each and '"onedl"' in each for each in wanted)


@pytest.mark.slow
def test_sdist_builds_the_same_wheel(build, source, wheel, tmp_path) -> None:
    sdist = build('sdist', source, tmp_path / 'sdist')
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / 'unpacked', filter='data')
    (unpacked,) = (tmp_path / 'unpacked').iterdir()
    again = build('wheel', unpacked, tmp_path / 'wheel')
    assert names_in(again) == names_in(wheel)


@pytest.mark.slow
def test_editable_install_links_the_files_of_mim(
    build, source, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv('MMFASEG_WITH_OPS', '0')
    mim = source / 'mmfaseg' / '.mim'
    for attempt in ('first', 'second'):
        build('editable', source, tmp_path / attempt)
        for name in SHIPPED:
            assert (mim / name).samefile(source / name)
        assert (mim / 'configs').is_symlink()
        assert len(list(mim.iterdir())) == 4
        (mim / 'stale').touch()


def test_mim_finds_each_config_by_its_basename(root: Path) -> None:
    names = [path.name for path in (root / 'configs').rglob('*.py')]
    assert len(set(names)) == len(names)


def test_model_index_points_to_files(root: Path) -> None:
    index = (root / 'model-index.yml').read_text()
    imports = re.findall(r'^  - (\S+)$', index, re.MULTILINE)
    assert imports
    for metafile in imports:
        text = (root / metafile).read_text()
        configs = re.findall(r'^ *Config: (\S+)$', text, re.MULTILINE)
        assert configs
        assert all((root / config).is_file() for config in configs)


def test_constraints_agree_with_requirements(root: Path) -> None:
    def read(name: str) -> list[Requirement]:
        lines = (root / name).read_text().splitlines()
        entries = [Requirement(x) for x in lines if x and x[0] != '#']
        return [r for r in entries if r.marker is None or r.marker.evaluate()]

    pages = [
        *read('requirements/docs.txt'),
        *read('requirements/explorer.txt'),
    ]
    for constraints, family, others in (
        ('constraints.txt', 'requirements/mm.txt', pages),
        ('constraints-onedl.txt', 'requirements/onedl.txt', []),
    ):
        pinned = {canonicalize_name(r.name): r for r in read(constraints)}
        for wanted in (
            *read('requirements.txt'),
            *read(family),
            *read('requirements/tests.txt'),
            *others,
        ):
            (pin,) = pinned[canonicalize_name(wanted.name)].specifier
            assert pin.operator == '=='
            assert wanted.specifier.contains(pin.version), str(wanted)


def run_script(folder: Path, path: Path, *options: str, before='') -> str:
    """Runs ``SCRIPT`` in a folder and returns its last line of output."""
    (folder / 'my config.py').write_text(
        f"_base_ = 'mmfaseg::{DEMO}'\ntrain_cfg = {{'max_iters': 7}}\n"
    )
    done = subprocess.run(
        [sys.executable, *options, '-c', before + SCRIPT],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()[-1]


# With -S, Python does not find the mmfaseg that is installed for this test.
PACKAGES = f"""
import site, sys
sys.path.append({sysconfig.get_path('purelib')!r})
"""


@pytest.mark.slow
def test_names_work_in_a_checkout_that_is_not_installed(root, tmp_path):
    found = run_script(tmp_path, root, '-S', before=PACKAGES)
    assert found == f'MaskEncoderDecoder {root / "mmfaseg/__init__.py"}'


@pytest.mark.slow
def test_names_work_with_the_wheel(wheel, tmp_path):
    site = tmp_path / 'site'
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    found = run_script(tmp_path, site)
    assert found == f'MaskEncoderDecoder {site / "mmfaseg/__init__.py"}'


@pytest.mark.slow
def test_names_work_with_an_editable_install(
    build, source, tmp_path, monkeypatch
):
    monkeypatch.setenv('MMFASEG_WITH_OPS', '0')
    site = tmp_path / 'site'
    with zipfile.ZipFile(build('editable', source, tmp_path / 'b')) as archive:
        archive.extractall(site)
    before = f'{PACKAGES}site.addsitedir({str(site)!r})\n'
    found = run_script(tmp_path, site, '-S', before=before)
    assert found == f'MaskEncoderDecoder {source / "mmfaseg/__init__.py"}'


@pytest.mark.slow
def test_wheel_installs_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (
            x for x in names_in(wheel) if x.endswith('entry_points.txt')
        )
        text = archive.read(name).decode()
    assert 'mmfaseg = mmfaseg.__main__:main' in text


@pytest.mark.slow
def test_wheel_segments_an_image_by_model_name(wheel, root, tmp_path):
    """Config, weights and tools come from the wheel."""
    site = tmp_path / 'site'
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'mmfaseg', 'infer'),
            *('faseg_efficientnet-lite0_dsb2018', root / 'demo/nuclei.png'),
        ],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(site)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert 'segmented images: 1,' in done.stdout
    assert list((tmp_path / 'inferred').rglob('nuclei*.png'))
