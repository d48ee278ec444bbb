"""Which packages mmfaseg runs on, and whether they are supported.

Two families of packages share the import names ``mmengine``, ``mmcv``,
``mmseg`` and ``mmdet``: the frozen releases of OpenMMLab, and the maintained
forks of OneDL. Versions are read from the metadata of the installed
distributions, so that a wrong one is named before its import fails.
"""

import importlib.metadata
import importlib.util
import platform
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from packaging.specifiers import SpecifierSet


class Requirement(NamedTuple):
    """Names under which a package is distributed, and supported versions."""

    names: tuple[str, ...]
    versions: str


class Distribution(NamedTuple):
    """A distribution that is installed."""

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
    """What mmfaseg runs on.

    Attributes:
        family: ``'openmmlab'`` or ``'onedl'``.
        python: Version of Python.
        torch: Version of PyTorch, with its build tag.
        packages: Import name (mmengine, mmcv, mmseg, mmdet) to the installed
            distribution.
        has_compiled_mmcv_ops: Whether mmcv brings compiled operators.
    """

    family: str
    python: str
    torch: str
    packages: dict[str, Distribution]
    has_compiled_mmcv_ops: bool

    @property
    def deformable_attention(self) -> str:
        """Which implementation of deformable attention runs where."""
        # The operators import PyTorch, whose version is checked here.
        from mmfaseg.ops import describe_ms_deform_attn

        return describe_ms_deform_attn()

    def __str__(self) -> str:
        """Return one line for the log."""
        packages = ', '.join(' '.join(each) for each in self.packages.values())
        return (
            f'{self.family} stack: {packages}; torch {self.torch}; '
            f'deformable attention: {self.deformable_attention}'
        )


def stack_info() -> StackInfo:
    """Return what mmfaseg runs on, after checking that it is supported.

    Raises:
        ImportError: If a package is missing, has an unsupported version, or
            comes from another family than the rest.
    """
    family, packages = _check_family()
    torch = _check_package(TORCH, 'see https://pytorch.org/get-started')
    return StackInfo(
        family=family,
        python=platform.python_version(),
        torch=torch.version,
        packages=packages,
        has_compiled_mmcv_ops=importlib.util.find_spec('mmcv._ext')
        is not None,
    )


def log_stack_info() -> None:
    """Log what mmfaseg runs on, one line at INFO by mmengine's logger."""
    from mmengine.logging import print_log

    print_log(f'mmfaseg runs on the {stack_info()}', logger='current')


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
            f'other: {names}. Make a new '
            f'environment; there, {_install_command("openmmlab")} or '
            f'{_install_command("onedl")}.'
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
            f'{requirement.versions}, which is not installed: {remedy}.'
        )
    supported = SpecifierSet(requirement.versions)
    if not supported.contains(distribution.version, prereleases=True):
        raise ImportError(
            f'{distribution.name} {distribution.version} is installed, but '
            f'mmfaseg needs {requirement.versions}: {remedy}.'
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
    # mmcv-lite, not mmcv, whose build without compiler and patience fails.
    wanted = ' '.join(
        f'"{requirement.names[-1]}{requirement.versions}"'
        for requirement in FAMILIES[family].values()
    )
    return f'run `pip install {wanted}`'
