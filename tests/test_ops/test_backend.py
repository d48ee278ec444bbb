import pytest
import torch

from mmfaseg.ops import (
    _extension,
    describe_backend,
    extension_is_loaded,
    hrca_gather,
    use_backend,
)

# imports the operators only: they do not need the rest of the package
DESCRIBE = """
import sys, types

package = types.ModuleType('mmfaseg')
package.__path__ = [sys.argv[1] + '/mmfaseg']
sys.modules['mmfaseg'] = package
from mmfaseg.ops import describe_backend, describe_ms_deform_attn

assert not [x for x in sys.modules if x.startswith(('mmcv', 'mmengine'))]
print(describe_backend())
print(describe_ms_deform_attn())
"""


def test_reference_is_chosen_by_the_environment(root, run_python, monkeypatch):
    monkeypatch.setenv('MMFASEG_OPS_BACKEND', 'reference')
    printed = run_python('-c', DESCRIBE, root).stdout.splitlines()
    assert printed == ['PyTorch reference, as requested', 'PyTorch']


def test_unknown_backend_raises(root, run_python, monkeypatch):
    monkeypatch.setenv('MMFASEG_OPS_BACKEND', 'fastest')
    done = run_python('-c', DESCRIBE, root, check=False)
    assert done.returncode != 0
    assert "MMFASEG_OPS_BACKEND='fastest' is not a backend" in done.stdout
    assert 'auto or reference' in done.stdout
    with (
        pytest.raises(ValueError, match="backend='mmcv' is not a backend"),
        use_backend('mmcv'),
    ):
        pass


def test_use_backend_restores_previous_backend():
    before = describe_backend()
    with pytest.raises(KeyError), use_backend('reference'):
        assert describe_backend() == 'PyTorch reference, as requested'
        raise KeyError
    assert describe_backend() == before


def test_reason_is_given_if_only_cuda_fails_to_load(monkeypatch):
    monkeypatch.setattr(_extension, '_devices', frozenset({'cpu'}))
    for reason, end in ((None, 'elsewhere'), ('no _Z', 'elsewhere: no _Z')):
        monkeypatch.setattr(_extension, '_reason', reason)
        expected = f'compiled on cpu, PyTorch reference {end}'
        assert describe_backend() == expected


@pytest.mark.skipif(not extension_is_loaded(), reason='no extension is loaded')
def test_compiled_operator_runs():
    maps = torch.randn(1, 2, 8, 8)
    index = torch.zeros(1, 1, dtype=torch.int64)
    seen = {}
    for backend in ('auto', 'reference'):
        with (
            use_backend(backend),
            torch.profiler.profile() as log,
        ):
            hrca_gather(maps, maps, index, 8, (1, 1))
        seen[backend] = {event.key for event in log.key_averages()}
    assert 'mmfaseg::hrca_gather' in seen['auto']
    assert 'mmfaseg::hrca_gather' not in seen['reference']


BROKEN = """
import sys
from importlib.util import spec_from_loader

class Broken:
    def find_spec(self, name, path=None, target=None):
        return spec_from_loader(name, self) if name == 'mmfaseg._C' else None

    def create_module(self, spec):
        raise ImportError('no symbol _Z')

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Broken())
"""


def test_broken_extension_warns(root, run_python, monkeypatch):
    """The PyTorch reference is used, with a warning."""
    monkeypatch.setenv('MMFASEG_OPS_BACKEND', 'auto')
    printed = run_python('-c', BROKEN + DESCRIBE, root).stdout
    assert 'UserWarning: mmfaseg uses its PyTorch reference' in printed
    assert (
        'mmfaseg._C does not load with this PyTorch: no symbol _Z' in printed
    )
    assert printed.splitlines()[-1] == 'PyTorch'
