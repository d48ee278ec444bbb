"""Installed packages and their supported versions.

Two families of packages share the import names ``mmengine``, ``mmcv``,
``mmseg`` and ``mmdet``: the releases of OpenMMLab and the maintained forks by
OneDL. Versions are read from package metadata, as importing an unsupported
version may fail.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from packaging.specifiers import SpecifierSet


class Requirement(NamedTuple):
    """Distribution names and supported versions of a package."""

    names: tuple[str, ...]
    versions: str


class Distribution(NamedTuple):
    """An installed distribution."""

    name: str
    version: str


FAMILIES = {
    'openmmlab': {
        'mmengine': Requirement(('mmengine',), '>=0.10.4,<1.0'),
        'mmcv': Requirement(('mmcv', 'mmcv-lite'), '>=2.0.1,<2.2.0'),
        'mmseg': Requirement(('mmsegmentation',), '>=1.2.2,<2.0'),
        'mmdet': Requirement(('mmdet',), '>=3.2.0,<4.0'),
    },
    'onedl': {
        'mmengine': Requirement(('onedl-mmengine',), '>=0.10.12,<1.0'),
        'mmcv': Requirement(('onedl-mmcv',), '>=2.3.6,<3.0'),
        'mmseg': Requirement(('onedl-mmsegmentation',), '>=1.4.2,<2.0'),
        'mmdet': Requirement(('onedl-mmdetection',), '>=3.5.1,<4.0'),
    },
}
TORCH = Requirement(('torch',), '>=2.6')


@dataclass(frozen=True)
class StackInfo:
    """The installed packages.

    Attributes:
        family (str): ``'openmmlab'`` or ``'onedl'``.
        torch (str): version of PyTorch with its build tag.
        packages (dict[str, Distribution]): installed distributions by import
            name (mmengine, mmcv, mmseg, mmdet).
        has_compiled_mmcv_ops (bool): whether mmcv has compiled operators.
    """

    family: str
    torch: str
    packages: dict[str, Distribution]
    has_compiled_mmcv_ops: bool

    @property
    def deformable_attention(self) -> str:
        """Implementations of deformable attention by device."""
        # imports PyTorch, whose version has already been checked
        from mmfaseg.ops import describe_ms_deform_attn

        return describe_ms_deform_attn()

    def __str__(self) -> str:
        """Returns one line for the log."""
        packages = ', '.join(' '.join(each) for each in self.packages.values())
        return (
            f'{self.family} stack: {packages}; torch {self.torch}; '
            f'deformable attention: {self.deformable_attention}'
        )


def stack_info() -> StackInfo:
    """Returns the installed packages.

    Raises:
        ImportError: if a package is missing or has an unsupported version, or
            if the packages belong to different families.
    """
    family, packages = _check_family()
    torch = _check_package(TORCH, 'see https://pytorch.org/get-started')
    return StackInfo(
        family=family,
        torch=torch.version,
        packages=packages,
        has_compiled_mmcv_ops=importlib.util.find_spec('mmcv._ext')
        is not None,
    )


def log_stack_info() -> None:
    """Logs the installed packages in one line."""
    from mmengine.logging import print_log

    print_log(f'mmfaseg runs on the {stack_info()}', logger='current')


def install_hint(module: str) -> str:
    """Returns the command that installs a missing package."""
    if module == 'torchvision':  # each release requires one of PyTorch
        release = importlib.metadata.version('torch').split('.')
        return f'run `pip install "torchvision==0.{int(release[1]) + 15}.*"`'
    return f'run `pip install {module.replace("_", "-")}`'


def _check_family() -> tuple[str, dict[str, Distribution]]:
    installed = {
        family: [
            distribution.name
            for requirement in requirements.values()
            if (distribution := _installed(requirement)) is not None
        ]
        for family, requirements in FAMILIES.items()
    }
    if all(installed.values()):
        names = ', '.join(chain.from_iterable(installed.values()))
        raise ImportError(
            'packages of two families are installed and overwrite each '
            f'other: {names}. In a new environment, '
            f'{_install_command("openmmlab")} or {_install_command("onedl")}'
        )
    family = 'onedl' if installed['onedl'] else 'openmmlab'
    remedy = _install_command(family)
    return family, {
        module: _check_package(requirement, remedy)
        for module, requirement in FAMILIES[family].items()
    }


def _check_package(requirement: Requirement, remedy: str) -> Distribution:
    distribution = _installed(requirement)
    if distribution is None:
        raise ImportError(
            f'mmfaseg needs {" or ".join(requirement.names)} '
            f'{requirement.versions}, which is not installed: {remedy}'
        )
    supported = SpecifierSet(requirement.versions)
    if not supported.contains(distribution.version, prereleases=True):
        raise ImportError(
            f'{distribution.name} {distribution.version} is installed, but '
            f'mmfaseg needs {requirement.versions}: {remedy}'
        )
    return distribution


def _installed(requirement: Requirement) -> Distribution | None:
    for name in requirement.names:
        try:
            return Distribution(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _install_command(family: str) -> str:
    # mmcv-lite, as mmcv requires a compiler and a long build
    packages = ' '.join(
        f'"{requirement.names[-1]}{requirement.versions}"'
        for requirement in FAMILIES[family].values()
    )
    return f'run `pip install {packages}`'
