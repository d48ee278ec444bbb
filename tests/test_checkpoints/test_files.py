import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmfaseg.checkpoints import read_state, write_state

STATE = dict(a=torch.arange(6.0).reshape(2, 3), b=torch.tensor([1, 2]))


def assert_is_state(state):
    assert sorted(state) == sorted(STATE)
    for name, value in STATE.items():
        assert torch.equal(state[name], value)


@pytest.mark.smoke
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_written_file_reads_the_same(tmp_path, suffix):
    path = tmp_path / f'x{suffix}'
    strided = {
        name: x.mT.contiguous().mT for name, x in STATE.items() if x.dim() == 2
    }
    write_state(path, STATE | strided, dict(config='c.py'))
    assert_is_state(read_state(path))
    assert os.listdir(tmp_path) == [path.name]
    loaded = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert_is_state(loaded['state_dict'])


@pytest.mark.parametrize('zipped', [True, False])
def test_detectron2_training_checkpoint(tmp_path, zipped):
    path = tmp_path / 'model_final.pth'
    content = dict(model=STATE, optimizer=dict(lr=[0.1]), iteration=9)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_is_state(read_state(path))


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_model_zoo_pickle_of_arrays(tmp_path, protocol):
    path = tmp_path / 'model_final.pkl'
    arrays = {name: x.numpy() for name, x in STATE.items()}
    content = {'model': arrays, '__author__': 'somebody'}
    path.write_bytes(pickle.dumps(content, protocol))
    assert_is_state(read_state(path))


class Trap:
    def __reduce__(self):
        return os.mkdir, ('sprung',)


@pytest.mark.parametrize('how', ['pickle', 'torch', 'legacy'])
def test_loading_executes_no_code(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    content = dict(model=STATE, trap=Trap())
    path = tmp_path / 'x.pth'
    if how == 'pickle':
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(
            content, path, _use_new_zipfile_serialization=how == 'torch'
        )
    with pytest.raises(ValueError, match='cannot be read as weights'):
        read_state(path)
    assert not (tmp_path / 'sprung').exists()


@pytest.mark.parametrize(
    'content', [b'', b'not a checkpoint', b'\x80\x02garbage', b'PK\x03\x04..']
)
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_damaged_file_raises_with_its_name(tmp_path, content, suffix):
    path = tmp_path / f'x{suffix}'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'x\.(pth|safetensors) cannot be'):
        read_state(path)


def test_non_state_dict_raises(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match='no table of weights'):
        read_state(path)
    torch.save(dict(state_dict=dict(a='text')), path)
    with pytest.raises(ValueError, match="'a' of type str"):
        read_state(path)
    array = np.array(['text'])
    path.write_bytes(pickle.dumps(dict(a=array)))
    with pytest.raises(ValueError, match=r'numpy\.dtype with unusual'):
        read_state(path)
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        read_state(tmp_path / 'absent.pth')


def test_invalid_target_raises_and_writes_nothing(tmp_path):
    for name, message in (
        ('x.pt', r'\.pt must end with one of'),
        ('absent/x.pth', 'absent is no folder: make it first'),
        ('folder.pth', r'folder\.pth is a folder'),
    ):
        (tmp_path / 'folder.pth').mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=message):
            write_state(tmp_path / name, STATE, {})
    assert os.listdir(tmp_path) == ['folder.pth']


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_shared_and_oversized_storage(tmp_path, suffix):
    """Tied weights and views are written as what they are."""
    path = tmp_path / f'x{suffix}'
    large = torch.arange(100_000.0)
    write_state(path, dict(a=large[:3], b=large[:3]), {})
    assert path.stat().st_size < 10_000
    assert read_state(path)['b'].tolist() == [0, 1, 2]


def test_meta_of_both_formats_reaches_mmengine(tmp_path):
    """mmseg's init_model asks it for the names of the classes."""
    meta = dict(dataset_meta=dict(classes=['a', 'b']), config='c.py')
    for suffix in ('.pth', '.safetensors'):
        path = tmp_path / f'x{suffix}'
        write_state(path, STATE, meta)
        assert path.stat().st_mode & 0o044 == 0o044
        loaded = CheckpointLoader.load_checkpoint(str(path), 'cpu')
        assert loaded['meta'] == meta


def test_ddp_prefix_is_removed_and_scalars_become_tensors(tmp_path):
    path = tmp_path / 'x.pkl'
    arrays = {f'module.{name}': x.numpy() for name, x in STATE.items()}
    arrays['module.count'] = np.int64(7)
    path.write_bytes(pickle.dumps(dict(model=arrays)))
    state = read_state(path)
    assert state.pop('count') == 7
    assert_is_state(state)


CRAFTED = """
import pickle, sys, torch, mmfaseg
from collections import OrderedDict
from mmfaseg.checkpoints import read_state

class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments
    def __reduce__(self):
        return self.call

import numpy as np
array = Call(np.ndarray, (1,), Call(np.dtype, 'O8'), b'A' * 8)
content = dict(model=dict(a=Call(OrderedDict, array)))
if sys.argv[2] == 'plain':
    open(sys.argv[1], 'wb').write(pickle.dumps(content, 2))
else:
    torch.save(content, sys.argv[1])
try:
    read_state(sys.argv[1])
except ValueError as error:
    print('refused:', error)
"""


@pytest.mark.parametrize('how', ['plain', 'torch'])
def test_crafted_array_raises(tmp_path, run_python, how):
    """NumPy takes the bytes of an array of objects for pointers."""
    done = run_python('-c', CRAFTED, tmp_path / 'x.pth', how)
    assert 'refused:' in done.stdout
    assert 'it calls numpy.dtype with unusual arguments' in done.stdout


def test_loaded_arrays_are_saved_as_plain_arrays(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(dict(a=np.arange(3)), path)
    array = torch.load(path, weights_only=True)['a']
    assert array.tolist() == [0, 1, 2]
    assert type(pickle.loads(pickle.dumps(array))) is np.ndarray
