import importlib.metadata

import pytest
from mmengine.logging import MMLogger
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import mmfaseg
from mmfaseg.ops import extension_is_loaded, use_backend
from mmfaseg.utils import stack_info
from mmfaseg.utils.stack_info import FAMILIES

OPENMMLAB = {
    'mmengine': '0.10.7',
    'mmcv-lite': '2.1.0',
    'mmsegmentation': '1.2.2',
    'mmdet': '3.3.0',
    'torch': '2.10.0',
}
ONEDL = {
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmsegmentation': '1.4.2',
    'onedl-mmdetection': '3.5.1',
    'torch': '2.13.0+cpu',
}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """Returns a function that replaces the installed distributions."""

    def pretend(distributions: dict[str, str]) -> None:
        def version(name: str) -> str:
            if name not in distributions:
                raise importlib.metadata.PackageNotFoundError(name)
            return distributions[name]

        monkeypatch.setattr(importlib.metadata, 'version', version)

    return pretend


@pytest.mark.smoke
def test_stack_info_describes_environment() -> None:
    info = stack_info()
    name, version = info.packages['mmseg']
    assert importlib.metadata.version(name) == version
    assert info.family in ('openmmlab', 'onedl')
    assert ('mmfaseg on cpu' in info.deformable_attention) is (
        extension_is_loaded()
    )
    with use_backend('reference'):
        assert 'mmfaseg' not in info.deformable_attention


@pytest.mark.parametrize(
    ('distributions', 'family'), [(OPENMMLAB, 'openmmlab'), (ONEDL, 'onedl')]
)
def test_package_family_is_detected(install, distributions, family) -> None:
    install(distributions)
    info = stack_info()
    assert info.family == family
    line = str(info)
    assert line.startswith(f'{family} stack: ')
    assert f'torch {distributions["torch"]}; ' in line
    for name, version in list(distributions.items())[:4]:
        assert f'{name} {version}' in line


def test_mixed_families_raise(install) -> None:
    install({**OPENMMLAB, 'onedl-mmcv': '2.3.6'})
    with pytest.raises(ImportError, match=r'two families.*mmdet, onedl-mmcv'):
        stack_info()


@pytest.mark.parametrize('name', OPENMMLAB)
def test_missing_package_raises(install, name) -> None:
    install({k: v for k, v in OPENMMLAB.items() if k != name})
    with pytest.raises(ImportError, match=f'needs .*{name}.*not installed'):
        stack_info()


def test_missing_packages_raise_with_install_command(install) -> None:
    install({'torch': '2.10.0'})
    with pytest.raises(ImportError, match='pip install "mmengine'):
        stack_info()


@pytest.mark.parametrize(
    ('name', 'version'),
    [
        ('mmcv-lite', '2.2.0'),
        ('mmcv-lite', '1.7.2'),
        ('mmengine', '0.9.1'),
        ('mmdet', '4.0.0'),
        ('torch', '2.5.1'),
    ],
)
def test_unsupported_version_raises(install, name, version) -> None:
    install({**OPENMMLAB, name: version})
    with pytest.raises(ImportError, match=f'{name} {version} is installed'):
        stack_info()


@pytest.mark.smoke
def test_one_line_is_logged(capfd) -> None:
    MMLogger.get_instance('stack_info', logger_name='stack_info')
    mmfaseg.log_stack_info()
    lines = [
        line
        for line in ''.join(capfd.readouterr()).splitlines()
        if 'mmfaseg runs on' in line
    ]
    assert len(lines) == 1
    assert 'INFO' in lines[0]
    backend = mmfaseg.stack_info().deformable_attention
    assert f'deformable attention: {backend}' in lines[0]


@pytest.mark.parametrize(
    ('file', 'family'),
    [('mm', 'openmmlab'), ('mim', 'openmmlab'), ('onedl', 'onedl')],
)
def test_requirements_are_the_supported_versions(root, file, family):
    lines = (root / f'requirements/{file}.txt').read_text().splitlines()
    required = [Requirement(x) for x in lines if not x.startswith('#')]
    supported = FAMILIES[family].values()
    assert len(required) == len(supported)
    for requirement in required:
        (versions,) = (
            x.versions for x in supported if requirement.name in x.names
        )
        assert requirement.specifier == SpecifierSet(versions)
