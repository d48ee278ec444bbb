"""Builds the operators and adds ``mmfaseg/.mim``; metadata is in setup.cfg.

With PyTorch 2.10 or newer, a C++ compiler and the Python headers, the CPU
operators are built as ``mmfaseg._C``. With nvcc and a CUDA build of PyTorch,
the CUDA operators are built as ``mmfaseg._C_cuda``, a separate library, so
that the same wheel also loads without CUDA.

``MMFASEG_WITH_OPS=0`` skips the operators. ``MMFASEG_WITH_OPS=1`` raises an
error if they cannot be built, ``FORCE_CUDA=1`` if the CUDA operators cannot be
built. PyTorch's ``MAX_JOBS`` and ``TORCH_CUDA_ARCH_LIST`` are supported. A
compiler error always fails the installation.
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
MIM_FILES = ('tools', 'configs', 'demo', 'model-index.yml')


class BuildPyWithMim(build_py):
    """Adds ``mmfaseg/.mim``: copies for wheels, links if editable.

    The links are also in the Git repository, but not in an sdist.
    """

    def run(self) -> None:
        """Builds the package, then adds the files of mim."""
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
    """Returns why the operators cannot be built, or None."""
    if os.environ.get('MMFASEG_WITH_OPS') == '0':
        return 'MMFASEG_WITH_OPS=0 is set'
    try:
        import torch
    except ImportError:
        return 'PyTorch is not found; pass --no-build-isolation to pip'
    version = tuple(map(int, torch.__version__.split('.')[:2]))
    if version < (2, 10):
        return f'PyTorch {torch.__version__} is older than 2.10'
    compiler = (os.environ.get('CXX') or 'c++').split()[0]
    if os.name == 'posix' and shutil.which(compiler) is None:
        return f'there is no C++ compiler {compiler!r}'
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        return 'the Python headers are not installed'
    return None


def missing_for_cuda() -> str | None:
    """Returns why the CUDA operators cannot be built, or None."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    if torch.version.cuda is None:
        return f'PyTorch {torch.__version__} does not support CUDA'
    if CUDA_HOME is None or not Path(CUDA_HOME, 'bin', 'nvcc').exists():
        return 'nvcc is not found; set CUDA_HOME'
    nvcc = subprocess.run(
        [Path(CUDA_HOME, 'bin', 'nvcc'), '--version'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r'release (\d+)', nvcc)
    if found and found[1] != torch.version.cuda.split('.')[0]:
        return f'nvcc is {found[1]}, PyTorch uses CUDA {torch.version.cuda}'
    if torch.cuda.device_count() == 0:  # PyTorch would query the GPU
        os.environ.setdefault('TORCH_CUDA_ARCH_LIST', '7.5;8.0;8.6;9.0+PTX')
    return None


def sources(pattern: str) -> list[str]:
    """Returns the matching source files, relative to the root."""
    return sorted(
        path.relative_to(ROOT).as_posix() for path in CSRC.glob(pattern)
    )


def flags(module: str) -> dict[str, list[str]]:
    """Returns the compiler flags of one library."""
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
    """Returns the arguments of ``setup()`` that build the operators."""
    missing = missing_for_operators()
    if missing:
        for demand in ('MMFASEG_WITH_OPS', 'FORCE_CUDA'):
            if os.environ.get(demand) == '1':
                sys.exit(f'{demand}=1, but {missing}')
        sys.stderr.write(f'the operators are not compiled: {missing}\n')
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
        sys.exit(f'FORCE_CUDA=1, but {missing}')
    return {
        'ext_modules': extensions,
        'cmdclass': {'build_ext': cpp_extension.BuildExtension},
        'options': {'bdist_wheel': {'py_limited_api': 'cp310'}},
    }


arguments = operators()
arguments.setdefault('cmdclass', {})['build_py'] = BuildPyWithMim
setup(**arguments)
