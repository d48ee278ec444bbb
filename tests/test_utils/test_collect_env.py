import pytest
import torch

import mmfaseg
from mmfaseg.ops import describe_backend


@pytest.mark.smoke
def test_command_prints_versions_and_backends(run_python) -> None:
    printed = run_python('-m', 'mmfaseg.utils.collect_env').stdout
    lines = printed.splitlines()
    info = mmfaseg.stack_info()
    assert f'mmfaseg: {mmfaseg.__version__}' in lines
    assert f'PyTorch: {torch.__version__}' in lines
    assert f'stack family: {info.family}' in lines
    name, version = info.packages['mmseg']
    assert f'mmseg: {version} ({name})' in lines
    backend = mmfaseg.stack_info().deformable_attention
    assert f'deformable attention: {backend}' in lines
    assert f'mmfaseg operators: {describe_backend()}' in lines
    assert 'Warning' not in printed
