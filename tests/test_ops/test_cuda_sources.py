"""Compilation of the CUDA sources."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

CSRC = Path(__file__).parents[2] / 'mmfaseg/ops/csrc'
NVCC = shutil.which('nvcc')
HAS_STABLE_ABI = tuple(int(x) for x in torch.__version__.split('.')[:2]) >= (
    2,
    10,
)


@pytest.mark.skipif(NVCC is None, reason='no nvcc')
@pytest.mark.skipif(not HAS_STABLE_ABI, reason='needs PyTorch 2.10')
@pytest.mark.slow
@pytest.mark.parametrize(
    'source', sorted(CSRC.glob('cuda/*.cu')), ids=lambda path: path.stem
)
def test_cuda_source_compiles_without_warnings(source, tmp_path):
    include = Path(torch.__file__).parent / 'include'
    done = subprocess.run(
        [
            NVCC,
            *('-c', source, '-o', tmp_path / 'kernel.o', '-std=c++17'),
            *('-gencode', 'arch=compute_75,code=sm_75'),
            *('-gencode', 'arch=compute_90,code=sm_90'),
            *('-Werror', 'all-warnings'),
            *('-Xcompiler', '-Wall,-Wextra,-Werror'),
            *('-DUSE_CUDA', '-DTORCH_TARGET_VERSION=0x020a000000000000'),
            *('-isystem', include),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
