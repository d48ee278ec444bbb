"""The CUDA kernels, executed on the CPU.

The C++ compiler builds the kernels with cuda_on_cpu.h, and test_compiled.py
runs with this library. This tests indices and arithmetic; launches and speed
need a GPU (``MMFASEG_TEST_DEVICE=cuda``).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmfaseg.ops import extension_is_loaded

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / 'mmfaseg/ops/csrc'


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('c++') is None, reason='no C++ compiler')
@pytest.mark.skipif(not extension_is_loaded(), reason='no extension is loaded')
def test_cuda_kernels_pass_the_tests_of_the_operators(tmp_path, root):
    library = tmp_path / 'kernels.so'
    torch_home = Path(torch.__file__).parent
    compiled = subprocess.run(
        [
            *('c++', '-x', 'c++', '-std=c++20', '-O1', '-w', '-shared'),
            *('-fPIC', '-o', library),
            '-DTORCH_TARGET_VERSION=0x020a000000000000',
            *('-isystem', torch_home / 'include'),
            *('-include', HERE / 'cuda_on_cpu.h'),
            *sorted(CSRC.glob('cuda/*.cu')),
            *(f'-L{torch_home / "lib"}', '-ltorch', '-ltorch_cpu', '-lc10'),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider'),
            HERE / 'test_compiled.py',
        ],
        cwd=root,
        env={**os.environ, 'MMFASEG_TEST_LIBRARY': str(library)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (launches,) = re.findall(r'(\d+) launches on the CPU', done.stdout)
    assert int(launches) > 1000
