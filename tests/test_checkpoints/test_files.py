import copy
import os
import pickle
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmfaseg.checkpoints import read_checkpoint, read_state, write_state

STATE = dict(a=torch.arange(6.0).reshape(2, 3), b=torch.tensor([1, 2]))
SUFFIXES = ('.pth', '.safetensors')


def assert_is_state(state):
    assert sorted(state) == sorted(STATE)
    for name, value in STATE.items():
        assert torch.equal(state[name], value)


@pytest.mark.smoke
@pytest.mark.parametrize('suffix', SUFFIXES)
def test_written_file_reads_the_same(tmp_path, suffix):
    """mmseg's init_model reads the names of the classes from meta."""
    path = tmp_path / f'x{suffix}'
    strided = {
        name: x.mT.contiguous().mT for name, x in STATE.items() if x.dim() == 2
    }
    meta = dict(dataset_meta=dict(classes=['a', 'b']), config='c.py')
    write_state(path, STATE | strided, meta)
    assert_is_state(read_state(path))
    assert os.listdir(tmp_path) == [path.name]
    assert path.stat().st_mode & 0o044 == 0o044
    loaded = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert_is_state(loaded['state_dict'])
    assert loaded['meta'] == meta


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
    arrays['a'] = arrays['a'].astype('>f4')
    content = {'model': arrays, '__author__': 'somebody'}
    path.write_bytes(pickle.dumps(content, protocol))
    assert_is_state(read_state(path))


def test_training_state_loads(tmp_path):
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=False)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    shared = torch.arange(6000.0)
    content = dict(
        weights=layer.state_dict(),
        parameter=torch.nn.Parameter(torch.zeros(2)),
        optimizer=optimizer.state_dict(),
        generator=torch.get_rng_state(),
        half=torch.ones(3, dtype=torch.bfloat16),
        flags=torch.tensor([True, False]),
        views=[shared, shared[:3000], shared[3000:], shared.view(2, -1).mT],
        broadcast=torch.zeros(1, 1).expand(1, 100_000),
        array=np.arange(3.0),
        scalar=np.float32(3),
        ordered=OrderedDict(a=None),
        counts=Counter('abca'),
        names={'a', 'b'},
        size=torch.Size((1, 2)),
    )
    content['itself'] = content
    path = tmp_path / 'x.pth'
    for zipped in (True, False):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        for use_mmap in (True, False):
            read = read_checkpoint(path, use_mmap=use_mmap)
            assert read['itself'] is read
            assert read['names'] == {'a', 'b'} and read['size'] == (1, 2)
            assert torch.equal(read['views'][2], shared[3000:])
            assert read['optimizer']['state'][0]['step'] == 1
            assert read['array'].tolist() == [0, 1, 2] and read['scalar'] == 3
            # saved again as a plain array
            assert type(pickle.loads(pickle.dumps(read['array']))) is (
                np.ndarray
            )


class Call:
    """Pickles to the call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) + ((state,) if state else ())

    def __reduce__(self):
        return self.call


FORMATS = dict(
    pickle=lambda content, path: path.write_bytes(pickle.dumps(content, 2)),
    torch=torch.save,
    legacy=lambda content, path: torch.save(
        content, path, _use_new_zipfile_serialization=False
    ),
)


@pytest.mark.parametrize('format', FORMATS)
def test_loading_executes_no_code(tmp_path, monkeypatch, format):
    monkeypatch.chdir(tmp_path)
    for suffix in ('.pth', '.pkl'):
        path = tmp_path / f'x{suffix}'
        FORMATS[format](dict(model=STATE, trap=Call(os.mkdir, 'made')), path)
        with pytest.raises(ValueError, match='cannot be read as a checkpoint'):
            read_state(path)
    assert not (tmp_path / 'made').exists()


def test_crafted_arrays_raise(tmp_path):
    """NumPy interprets the bytes of object arrays as pointers."""
    reconstruct, scalar = (
        x.__reduce__()[0] for x in (np.empty(0), np.float64(0))
    )
    data, number = b'A' * 8, np.dtype('f8')
    array = (1, (1,), number, False, data)
    twice = Call(reconstruct, np.ndarray, (0,), b'b', state=array)
    for content in (
        Call(np.ndarray, (1,), number, data),
        Call(np.dtype, 'O8'),
        Call(np.dtype, [('a', 'O')]),
        Call(scalar, Call(np.dtype, 'O8'), data),
        Call(reconstruct, np.ndarray, (2**40,), b'b'),
        Call(
            reconstruct, np.ndarray, (0,), b'b', state=(*array[:4], b'short')
        ),
    ):
        for suffix, format in (('.pkl', 'pickle'), ('.pth', 'torch')):
            path = tmp_path / f'x{suffix}'
            FORMATS[format](dict(model=dict(a=content)), path)
            with pytest.raises(ValueError, match='cannot be read as a check'):
                read_state(path)
    instructions = pickle.dumps(twice, 2)
    state = instructions[instructions.rindex(b'(') : -2]
    path = tmp_path / 'x.pkl'
    path.write_bytes(instructions[:-1] + state + b'b.')
    with pytest.raises(ValueError, match='filled twice'):
        read_state(path)


def rewrite(path, compression=zipfile.ZIP_STORED, old=b'', new=b''):
    """Writes the entries of an archive again."""
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, 'w', compression) as target:
        for name, content in entries.items():
            if name.endswith('data.pkl'):
                assert old in content
                content = content.replace(old, new)
            target.writestr(name, content)


def repeat_entry(path):
    """Adds many names for the largest entry."""
    with zipfile.ZipFile(path, 'a') as file:
        entry = max(file.filelist, key=lambda x: x.file_size)
        for number in range(1000):
            duplicate = copy.copy(entry)
            duplicate.filename = f'x/data/{number}'
            file.filelist.append(duplicate)
        file._didModify = True


def test_declared_size_is_limited_to_the_file(tmp_path):
    """Without the check, small files could allocate all memory."""
    path = tmp_path / 'x.pth'
    small = torch.zeros(77)
    huge = b'J\xff\xff\xff\x7f'  # the number 2**31 - 1
    enlarged = Call(
        torch._utils._rebuild_tensor_v2,
        torch.storage.TypedStorage(
            wrap_storage=small.untyped_storage(), dtype=small.dtype
        ),
        *(0, (2**31,), (1,), False, OrderedDict()),
    )
    compressed = torch.zeros(2**20)
    for content, change in (
        (compressed, lambda: rewrite(path, zipfile.ZIP_DEFLATED)),
        (torch.zeros(2**10), lambda: repeat_entry(path)),
        (small, lambda: rewrite(path, old=b'KM', new=huge)),
        (enlarged, lambda: None),
    ):
        torch.save(dict(a=content), path)
        change()
        with pytest.raises(ValueError, match=r'content has \d+ bytes'):
            read_checkpoint(path)
    FORMATS['legacy'](dict(a=small), path)
    read_checkpoint(path)
    path.write_bytes(path.read_bytes().replace(b'KM', huge))
    with pytest.raises(ValueError, match=r'content has 8589934588 bytes'):
        read_checkpoint(path)


@pytest.mark.parametrize('suffix', [*SUFFIXES, '.pkl'])
def test_damaged_file_raises_with_its_name(tmp_path, suffix):
    path = tmp_path / f'x{suffix}'
    for content in (b'', b'text', b'\x80\x02garbage', b'PK\x03\x04..'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f'x{suffix} cannot be') as raised:
            read_state(path)
        assert '\n' not in str(raised.value)


def test_non_state_dict_raises(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match='no dictionary of weights'):
        read_state(path)
    torch.save(dict(state_dict=dict(a='text')), path)
    with pytest.raises(ValueError, match="'a' of type str"):
        read_state(path)
    path = tmp_path / 'x.pkl'
    path.write_bytes(pickle.dumps(dict(a=np.array(['text']))))
    with pytest.raises(ValueError, match="unsupported array type 'U4'"):
        read_state(path)
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        read_state(tmp_path / 'absent.pth')


def test_invalid_target_raises_and_writes_nothing(tmp_path):
    (tmp_path / 'folder.pth').mkdir()
    for name, message in (
        ('x.pt', r'\.pt must end with one of'),
        ('absent/x.pth', 'absent does not exist: create it'),
        ('folder.pth', r'folder\.pth is a folder'),
    ):
        with pytest.raises(ValueError, match=message):
            write_state(tmp_path / name, STATE, {})
    assert os.listdir(tmp_path) == ['folder.pth']


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_shared_and_oversized_storages_are_copied(tmp_path, suffix):
    path = tmp_path / f'x{suffix}'
    large = torch.arange(100_000.0)
    write_state(path, dict(a=large[:3], b=large[:3]), {})
    assert path.stat().st_size < 10_000
    assert read_state(path)['b'].tolist() == [0, 1, 2]


def test_ddp_prefix_is_removed_and_scalars_become_tensors(tmp_path):
    path = tmp_path / 'x.pkl'
    arrays = {f'module.{name}': x.numpy() for name, x in STATE.items()}
    arrays['module.count'] = np.int64(7)
    path.write_bytes(pickle.dumps(dict(model=arrays)))
    state = read_state(path)
    assert state.pop('count') == 7
    assert_is_state(state)
