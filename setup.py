"""Builds the operators and ships ``mmfaseg/.mim``; the rest is in setup.cfg.

The operators (``mmfaseg._C``) are built where PyTorch 2.10 or newer, a C++
compiler and the headers of Python are at hand. ``MMFASEG_WITH_OPS=0`` leaves
them out, ``MMFASEG_WITH_OPS=1`` fails where they cannot be built. PyTorch's
``MAX_JOBS`` is honoured. A build that fails is an error, never a wheel without
operators.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_FILES = ('tools', 'configs', 'model-index.yml')


class BuildPyWithMim(build_py):
    """Adds ``mmfaseg/.mim``: copies for a wheel, links for an editable one."""

    def run(self) -> None:
        """Build as usual, then add the files of mim."""
        super().run()
        package = ROOT if self.editable_mode else Path(self.build_lib)
        mim = package / 'mmfaseg' / '.mim'
        if mim.exists():
            shutil.rmtree(mim)
        mim.mkdir(parents=True)
        for name in MIM_FILES:
            if self.editable_mode:
                os.symlink(Path('..', '..', name), mim / name)
            else:
                self._copy(ROOT / name, mim / name)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        if source.is_dir():
            ignore = shutil.ignore_patterns('__pycache__')
            shutil.copytree(source, target, ignore=ignore)
        else:
            shutil.copy2(source, target)


def missing_for_operators() -> str | None:
    """Return what is missing to build the operators, or None."""
    if os.environ.get('MMFASEG_WITH_OPS') == '0':
        return 'MMFASEG_WITH_OPS=0'
    try:
        import torch
    except ImportError:
        return 'no PyTorch (pip needs --no-build-isolation to see it)'
    version = tuple(map(int, torch.__version__.split('.')[:2]))
    if version < (2, 10):
        return f'PyTorch {torch.__version__} has no stable C++ interface'
    compiler = os.environ.get('CXX', 'c++').split()[0]
    if os.name == 'posix' and shutil.which(compiler) is None:
        return f'no C++ compiler {compiler!r}'
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        return 'no headers of Python'
    return None


def operators() -> dict[str, Any]:
    """Return the arguments of setup() that build ``mmfaseg._C``."""
    missing = missing_for_operators()
    if missing:
        if os.environ.get('MMFASEG_WITH_OPS') == '1':
            sys.exit(f'MMFASEG_WITH_OPS=1, but there is {missing}')
        sys.stderr.write(f'mmfaseg without compiled operators: {missing}\n')
        return {}
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    sources = sorted(
        path.relative_to(ROOT).as_posix()
        for folder in ('.', 'cpu')
        for path in (ROOT / 'mmfaseg/ops/csrc' / folder).glob('*.cpp')
    )
    flags = [
        '-DMMFASEG_MODULE=_C',
        '-DTORCH_TARGET_VERSION=0x020a000000000000',  # 2.10 and newer
    ]
    if os.name == 'posix':
        flags += ['-O3', '-fopenmp-simd', '-fvisibility=hidden']
        flags += ['-Wno-psabi', f'-ffile-prefix-map={ROOT}=.']
    extension = CppExtension(
        'mmfaseg._C',
        sources,
        extra_compile_args={'cxx': flags},
        py_limited_api=True,
    )
    return {
        'ext_modules': [extension],
        'cmdclass': {'build_ext': BuildExtension},
        'options': {'bdist_wheel': {'py_limited_api': 'cp310'}},
    }


arguments = operators()
arguments.setdefault('cmdclass', {})['build_py'] = BuildPyWithMim
setup(**arguments)
