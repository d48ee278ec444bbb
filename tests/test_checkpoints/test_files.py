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
def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, how):
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
def test_damaged_file_is_named(tmp_path, content, suffix):
    path = tmp_path / f'x{suffix}'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'x\.(pth|safetensors) cannot be'):
        read_state(path)


def test_what_is_no_table_of_weights_is_refused(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match='no table of weights'):
        read_state(path)
    torch.save(dict(state_dict=dict(a='text')), path)
    with pytest.raises(ValueError, match="'a' of type str"):
        read_state(path)
    array = np.array(['text'])
    path.write_bytes(pickle.dumps(dict(a=array)))
    with pytest.raises((ValueError, TypeError)):
        read_state(path)
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        read_state(tmp_path / 'absent.pth')


def test_another_suffix_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r'\.pt must end with one of'):
        write_state(tmp_path / 'x.pt', STATE, {})
    assert os.listdir(tmp_path) == []
