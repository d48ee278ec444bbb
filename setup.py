"""Builds the operators and ships ``mmfaseg/.mim``; the rest is in setup.cfg.

The operators are built where PyTorch 2.10 or newer, a C++ compiler and the
headers of Python are at hand: ``mmfaseg._C`` for the CPU, ``mmfaseg._C_cuda``
where there are also nvcc and a CUDA build of PyTorch. They are two libraries,
so that one wheel also loads where there is no CUDA.

``MMFASEG_WITH_OPS=0`` leaves the operators out, ``MMFASEG_WITH_OPS=1`` fails
where they cannot be built, ``FORCE_CUDA=1`` where those for CUDA cannot.
PyTorch's ``MAX_JOBS`` and ``TORCH_CUDA_ARCH_LIST`` are honoured. A build that
fails is an error, never a wheel without operators.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / 'mmfaseg/ops/csrc'
MIM_FILES = ('tools', 'configs', 'model-index.yml')


class BuildPyWithMim(build_py):
    """Adds ``mmfaseg/.mim``: copies for a wheel, links for an editable one.

    The links are also in the Git repository, but not in an sdist.
    """

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
    compiler = (os.environ.get('CXX') or 'c++').split()[0]
    if os.name == 'posix' and shutil.which(compiler) is None:
        return f'no C++ compiler {compiler!r}'
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        return 'no headers of Python'
    return None


def missing_for_cuda() -> str | None:
    """Return what is missing to build the operators for CUDA, or None."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    if torch.version.cuda is None:
        return f'PyTorch {torch.__version__} without CUDA'
    if CUDA_HOME is None or not Path(CUDA_HOME, 'bin', 'nvcc').exists():
        return 'no nvcc: set CUDA_HOME'
    nvcc = subprocess.run(
        [Path(CUDA_HOME, 'bin', 'nvcc'), '--version'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r'release (\d+)', nvcc)
    if found and found[1] != torch.version.cuda.split('.')[0]:
        return f'nvcc {found[1]}, but PyTorch for CUDA {torch.version.cuda}'
    if torch.cuda.device_count() == 0:  # PyTorch would ask the card
        os.environ.setdefault('TORCH_CUDA_ARCH_LIST', '8.0;8.6;9.0+PTX')
    return None


def sources(pattern: str) -> list[str]:
    """Return the source files that match, as setuptools wants their names."""
    return sorted(
        path.relative_to(ROOT).as_posix() for path in CSRC.glob(pattern)
    )


def flags(module: str) -> dict[str, list[str]]:
    """Return the flags of the compilers for one library."""
    definitions = [
        f'-DMMFASEG_MODULE={module}',
        '-DTORCH_TARGET_VERSION=0x020a000000000000',  # 2.10 and newer
    ]
    cxx = list(definitions)
    if os.name == 'posix':
        cxx += ['-O3', '-g0', '-fopenmp-simd', '-fvisibility=hidden']
        cxx += ['-Wno-psabi', f'-ffile-prefix-map={ROOT}=.']
    return {'cxx': cxx, 'nvcc': [*definitions, '-O3', '-DUSE_CUDA']}


def operators() -> dict[str, Any]:
    """Return the arguments of setup() that build the operators."""
    missing = missing_for_operators()
    if missing:
        for demand in ('MMFASEG_WITH_OPS', 'FORCE_CUDA'):
            if os.environ.get(demand) == '1':
                sys.exit(f'{demand}=1, but there is {missing}')
        sys.stderr.write(f'mmfaseg without compiled operators: {missing}\n')
        return {}
    from torch.utils import cpp_extension

    extensions = [
        cpp_extension.CppExtension(
            'mmfaseg._C',
            sources('*.cpp') + sources('cpu/*.cpp'),
            depends=sources('**/*.h'),
            extra_compile_args=flags('_C'),
            py_limited_api=True,
        )
    ]
    missing = missing_for_cuda()
    if missing is None:
        extensions.append(
            cpp_extension.CUDAExtension(
                'mmfaseg._C_cuda',
                sources('module.cpp') + sources('cuda/*.cu'),
                depends=sources('**/*.h'),
                extra_compile_args=flags('_C_cuda'),
                py_limited_api=True,
            )
        )
    elif os.environ.get('FORCE_CUDA') == '1':
        sys.exit(f'FORCE_CUDA=1, but there is {missing}')
    return {
        'ext_modules': extensions,
        'cmdclass': {'build_ext': cpp_extension.BuildExtension},
        'options': {'bdist_wheel': {'py_limited_api': 'cp310'}},
    }


arguments = operators()
arguments.setdefault('cmdclass', {})['build_py'] = BuildPyWithMim
setup(**arguments)
