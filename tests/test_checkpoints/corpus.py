"""Files that are made to do harm, or are damaged: each of little.

Each maker writes one file. What it is to do is in its name; all of them were
seen to do it (gigabytes, minutes, a crash of Python), or to be refused by
PyTorch itself, before the check was there.
"""

import _codecs
import copy
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import torch

HUGE = 2**33  # bytes: no machine of a test should have to give so much
reconstruct = np.empty(0).__reduce__()[0]


class Call:
    """Pickles to the call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.call = function, arguments
        if state is not None:
            self.call = *self.call, state

    def __reduce__(self):
        return self.call


def save(path, content, **options):
    torch.save(dict(state_dict=dict(a=content)), path, **options)


def archive(path, instructions, **entries):
    """Writes what torch.save writes, with other instructions."""
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('x/data.pkl', instructions)
        file.writestr('x/version', '3\n')
        file.writestr('x/byteorder', 'little')
        for name, value in entries.items():
            file.writestr(f'x/data/{name}', value)


def doubled_tuple(how):
    """A tuple of two tuples of two tuples: 2^60 entries in 240 bytes."""
    pairs = b')'
    for number in range(60):
        if how == 'dup':
            pairs += b'2\x86'
        else:
            pairs += b'q' + bytes([number]) + b'h' + bytes([number]) + b'\x86'
    return b'\x80\x02}X\x01\x00\x00\x00a}' + pairs + b'K\x01ss.'


def in_archive(instructions):
    return lambda path: archive(path, instructions)


def plain(instructions):
    return lambda path: path.write_bytes(instructions)


def deflated(path):
    save(path, torch.zeros(2**25))
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as target:
        for name, content in entries.items():
            target.writestr(name, content)


def overlapping(path):
    """A thousand names for one entry of a megabyte."""
    save(path, torch.zeros(2**18))
    with zipfile.ZipFile(path, 'a') as file:
        entry = max(file.filelist, key=lambda x: x.file_size)
        for number in range(1000):
            again = copy.copy(entry)
            again.filename = f'x/data/{number}'
            file.filelist.append(again)
        file._didModify = True


def larger_storage(path):
    """The instructions speak of more numbers than the file has."""
    save(path, torch.zeros(4))
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    old, new = b'K\x04', b'J' + struct.pack('<i', 2**31 - 1)
    with zipfile.ZipFile(path, 'w') as target:
        for name, content in entries.items():
            if name.endswith('data.pkl'):
                assert old in content
                content = content.replace(old, new)
            target.writestr(name, content)


def cut(make, share):
    def made(path):
        make(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return made


def storage_grown(path):
    """A tensor of a storage that PyTorch makes larger for it."""
    small = torch.zeros(1)
    big = Call(
        torch._utils._rebuild_tensor_v2,
        torch.storage.TypedStorage(
            wrap_storage=small.untyped_storage(),
            dtype=torch.float32,
            _internal=True,
        ),
        *(0, (HUGE // 4,), (1,), False, OrderedDict()),
    )
    save(path, big)


def old_storage(path):
    """The format before PyTorch 1.6, with a storage that is not there."""
    stream = io.BytesIO()
    torch.save(
        dict(state_dict=dict(a=torch.zeros(77))),
        stream,
        _use_new_zipfile_serialization=False,
    )
    content = stream.getvalue()
    assert content.count(b'KM') == 2  # in the storage, and in the shape
    number = b'J' + struct.pack('<i', 2**31 - 1)
    path.write_bytes(content.replace(b'KM', number))


def safetensors(header, payload=b''):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return plain(struct.pack('<Q', len(text)) + text + payload)


def one(**change):
    entry = dict(dtype='F32', shape=[1], data_offsets=[0, 4])
    return dict(a={**entry, **change})


# arrays whose type says later that it holds addresses


def changed_type(code, *state):
    made = Call(np.dtype, code, False, True)
    made.call = *made.call, state
    return made


def array_of(kind):
    made = Call(reconstruct, np.ndarray, (0,), b'b')
    made.call = *made.call, (1, (1,), kind, False, letters)
    return made


def scalar_of(*arguments):
    return Call(np.float64(0).__reduce__()[0], *arguments)


def encoded(*codecs):
    made = 'A' * 1000
    for codec in codecs:
        made = Call(_codecs.encode, made, codec)
    return made


# archives that two programs read differently


def other_case(path):
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('x/DATA.PKL', ALLOCATES)
        file.writestr('x/version', '3\n')
        file.writestr('x/byteorder', 'little')


def old_with_archive(path):
    save(path, zeros, _use_new_zipfile_serialization=False)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w') as file:
        file.writestr('a', 'b')
    path.write_bytes(path.read_bytes() + stream.getvalue())


def old_with_more_instructions(path):
    save(path, zeros, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[:2] + b'NNNN' + content[2:])


def two_directories(path):
    archive(path, ALLOCATES)
    bad = path.read_bytes()
    archive(path, b'\x80\x02}.'.ljust(len(ALLOCATES), b'\0'))
    path.write_bytes(bad[:-22] + path.read_bytes()[:-22] + bad[-22:])


def tape(path):
    """A .tar whose first name is a pickle."""
    with tarfile.open(path, 'w') as file:
        file.addfile(tarfile.TarInfo('N.'))


def doubled_list():
    """A list of two lists of two lists, called, for an error that shows it."""
    lists = b'\x80\x02]q\x00'
    for number in range(40):
        get = b'h' + bytes([number])
        lists += b'](' + get + get + b'eq' + bytes([number + 1])
    return lists + b')R.'


def one_key_often():
    key = b'\x80\x02)'
    for number in range(12):
        key += b'q' + bytes([number]) + b'h' + bytes([number]) + b'\x86'
    return key + b'q\x20}(' + b'h\x20N' * 300_000 + b'u.'


def colliding_numbers():
    """Multiples of a number that Python takes for 0 in a hash."""
    keys = b''
    for number in range(1, 50_000):
        code = pickle.encode_long((2**61 - 1) * number)
        keys += b'\x8a' + bytes([len(code)]) + code + b'N'
    return b'\x80\x02}(' + keys + b'u.'


def text(length):
    return b'X' + struct.pack('<I', length) + b'a' * length


def number(value):
    code = pickle.encode_long(value)
    if len(code) < 256:
        return b'\x8a' + bytes([len(code)]) + code
    return b'\x8b' + struct.pack('<i', len(code)) + code


def list_of(*items):
    return b'](' + b''.join(items) + b'e'


COLLIDING = [number((2**61 - 1) * x) for x in range(1, 30_000)]


def encode_often():
    head = b'c_codecs\nencode\nq\x000' + text(400_000)
    head += b'X\x06\x00\x00\x00latin1\x86q\x010'
    return b'\x80\x02' + head + list_of(*[b'h\x00h\x01R'] * 8000) + b'.'


def set_often(kind):
    """Of a list that is filled after it was put into the arguments."""
    head = b'c__builtin__\nset\nq\x000]q\x02\x85q\x010h\x02('
    items = b'K\x01' * 60_000 if kind == 'long' else b''.join(COLLIDING)
    times = 1500 if kind == 'long' else 1
    return (
        b'\x80\x02'
        + head
        + items
        + b'e0'
        + list_of(*[b'h\x00h\x01R'] * times)
        + b'.'
    )


def keys_of(*keys):
    return b'\x80\x02}(' + b''.join(key + b'N' for key in keys) + b'u.'


def colliding_tuples():
    return keys_of(*[x + b'\x85' for x in COLLIDING])


def frozen_sets():
    """Equal sets of equal sets: each comparison compares all of it."""
    inner = b'\x80\x04'
    for _ in range(2):
        inner += b'(K\x01\x91\x94'
        for _ in range(40):
            inner += b'(2\x85\x91'
    return inner + b'.'


def state_twice():
    """An array that is filled anew while others look at its memory."""
    kind = b'cnumpy\ndtype\n(X\x02\x00\x00\x00u1\x89\x88tR'
    made = (
        b'cnumpy.core.multiarray\n_reconstruct\n'
        b'cnumpy\nndarray\nK\x00\x85C\x01b\x87R'
    )
    state = b'(K\x01K\x04\x85' + kind + b'\x89C\x04abcdtb'
    return b'\x80\x03' + made + state + state + b'.'


def view_of_an_array():
    kind = b'cnumpy\ndtype\n(X\x02\x00\x00\x00u1\x89\x88tR'
    made = (
        b'cnumpy.core.multiarray\n_reconstruct\n'
        b'cnumpy\nndarray\nK\x00\x85C\x01b\x87R'
    )
    return (
        b'\x80\x03cnumpy._core.numeric\n_frombuffer\n('
        + made
        + kind
        + b'K\x00\x85X\x01\x00\x00\x00CtR.'
    )


def one_storage_often(path):
    """PyTorch finds entries in letters of any case."""
    save(path, torch.zeros(4))
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, 'w') as target:
        for name, content in entries.items():
            if name.endswith('data.pkl'):
                content = content.replace(
                    b'X\x01\x00\x00\x000', b'X\x01\x00\x00\x00o'
                )
            name = name.replace('data/0', 'data/O')
            target.writestr(name, content)


ALLOCATES = (
    b'\x80\x02}X\x01\x00\x00\x00ac__builtin__\nbytearray\nJ'
    + struct.pack('<i', 2**31 - 1)
    + b'\x85Rs.'
)
DETOUR_OF_A_LIST = (
    b'\x80\x02}X\x01\x00\x00\x00actorch._tensor\n_rebuild_from_type_v2\n]'
    b'c__builtin__\nbytearray\nactorch\nTensor\naJ'
    + struct.pack('<i', 2**31 - 1)
    + b'\x85a}aRs.'
)
zeros = Call(bytearray, HUGE)
letters = Call(_codecs.encode, 'A' * 8, 'latin1')
objects = changed_type('O8', 3, '|', None, None, None, -1, -1, 0)
inner = changed_type('f8', 3, '<', (np.dtype('O'), (1,)), None, None, 8, 8, 0)
fields = changed_type(
    'V8', 3, '|', None, ('a',), {'a': (np.dtype('O'), 0)}, 8, 1, 0
)
expanded = torch.zeros(1).expand(2**28)
to_double = Call(
    torch._utils._rebuild_device_tensor_from_cpu_tensor,
    *(expanded, torch.float64, 'cpu', False),
)
# crafted objects, each in a plain pickle and in an archive
OBJECTS = {
    'scalar_of_address': scalar_of(objects, letters),
    'array_of_addresses': array_of(objects),
    'array_of_inner_addresses': array_of(inner),
    'array_of_fields': array_of(fields),
    'large_scalar': scalar_of(Call(np.dtype, 'V1500000000', False, True)),
    'doubled_letters': encoded(*['hex_codec'] * 24),
}
TENSORS = {
    'set_of_a_tensor': Call(set, expanded),
    'count_of_a_tensor': Call(Counter, expanded),
    'size_of_a_tensor': Call(torch.Size, expanded),
    'to_double': to_double,
    'slow_letters': Call(
        _codecs.encode,
        ''.join(chr(0x4E00 + i % 20000) for i in range(40_000)),
        'punycode',
    ),
}

trap = Call(os.mkdir, 'sprung')
array = Call(np.ndarray, (1,), Call(np.dtype, 'O8'), b'A' * 8)
detour = Call(
    torch._tensor._rebuild_from_type_v2, bytearray, torch.Tensor, (HUGE,), {}
)
twice = Call(
    torch._tensor._rebuild_from_type_v2,
    torch._tensor._rebuild_from_type_v2,
    *(torch.Tensor, (bytearray, torch.Tensor, (HUGE,), {}), {}),
)
big_array = Call(reconstruct, np.ndarray, (HUGE,), b'b')
count = struct.pack

PICKLES = {
    'empty': plain(b''),
    'text': plain(b'no checkpoint at all'),
    'unknown_instruction': plain(b'\x80\x02\xff.'),
    'cut_off': plain(pickle.dumps(dict(a=np.zeros(99)))[:-20]),
    'runs_code': plain(pickle.dumps(dict(a=trap))),
    'remembers_much': plain(b'\x80\x04}r' + count('<I', 2**29) + b'.'),
    'remembers_at_minus_one': plain(b'}p-1\n.'),
    'long_bytes': plain(b'\x80\x04\x8e' + count('<Q', 2**40) + b'abc.'),
    'endless_bytes': plain(b'\x80\x04\x8e' + count('<Q', 2**63) + b'abc.'),
    'long_bytearray': plain(b'\x80\x05\x96' + count('<Q', HUGE) + b'abc.'),
    'long_number': plain(b'\x80\x02\x8b' + count('<i', 2**31 - 1) + b'ab.'),
    'long_frame': plain(b'\x80\x04\x95' + count('<Q', HUGE) + b'}.'),
    'doubled_tuple': plain(doubled_tuple('dup')),
    'doubled_tuple_by_memo': plain(doubled_tuple('memo')),
    'deep_tuple': plain(b'\x80\x02})' + b'\x85' * 500_000 + b'K\x01s.'),
    'mark_as_value': plain(b'\x80\x02}(2ss.'),
    'big_array': plain(pickle.dumps(dict(a=big_array), 2)),
    'array_of_pointers': plain(pickle.dumps(dict(a=array), 2)),
    'zeros': plain(pickle.dumps(dict(a=zeros), 2)),
}
ARCHIVES = {
    'archive_runs_code': lambda path: save(path, trap),
    'old_runs_code': lambda path: save(
        path, trap, _use_new_zipfile_serialization=False
    ),
    'archive_without_content': lambda path: archive(path, b''),
    'archive_cut_off': cut(lambda path: save(path, torch.zeros(999)), 0.7),
    'old_cut_off': cut(
        lambda path: save(
            path, torch.zeros(999), _use_new_zipfile_serialization=False
        ),
        0.7,
    ),
    'deflated': deflated,
    'overlapping': overlapping,
    'larger_storage': larger_storage,
    'storage_grown': storage_grown,
    'old_storage': old_storage,
    'expanded': lambda path: save(path, torch.zeros(1).expand(2**36)),
    'meta': lambda path: save(path, torch.empty(2**36, device='meta')),
    'archive_zeros': lambda path: save(path, zeros),
    'archive_tensor': lambda path: save(path, Call(torch.FloatTensor, HUGE)),
    'detour': lambda path: save(path, detour),
    'detour_twice': lambda path: save(path, twice),
    'archive_big_array': lambda path: save(path, big_array),
    'archive_doubled_tuple': in_archive(doubled_tuple('memo')),
    'archive_deep_tuple': in_archive(
        b'\x80\x02})' + b'\x85' * 500_000 + b'K\x01s.'
    ),
    'script': lambda path: torch.jit.save(
        torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), path
    ),
}
SAFETENSORS = {
    'empty.safetensors': plain(b''),
    'header_endless.safetensors': plain(count('<Q', 2**63) + b'{}'),
    'header_long.safetensors': plain(count('<Q', 2**30) + b'{}'),
    'header_no_json.safetensors': safetensors(b'{{{{'),
    'outside.safetensors': safetensors(one(data_offsets=[0, HUGE])),
    'other_shape.safetensors': safetensors(one(shape=[2**40]), b'1234'),
    'overflow.safetensors': safetensors(one(shape=[2**40, 2**40]), b'1234'),
    'backwards.safetensors': safetensors(one(data_offsets=[4, 0]), b'1234'),
    'cut.safetensors': safetensors(one(), b'12'),
    'is_a_pickle.safetensors': plain(pickle.dumps(dict(a=trap))),
}
CRAFTED = {
    **{
        f'plain_{name}': plain(pickle.dumps(dict(a=x), 2))
        for name, x in OBJECTS.items()
    },
    **{
        name: lambda path, x=x: save(path, x)
        for name, x in {**OBJECTS, **TENSORS}.items()
    },
    'other_case': other_case,
    'old_with_archive': old_with_archive,
    'old_with_more_instructions': old_with_more_instructions,
    'two_directories': two_directories,
    'tape': tape,
    'detour_of_a_list': in_archive(DETOUR_OF_A_LIST),
    'doubled_list': in_archive(doubled_list()),
    'one_key_often': in_archive(one_key_often()),
    'colliding_numbers': in_archive(colliding_numbers()),
    'colliding_tuples': in_archive(keys_of(*[x + b'\x85' for x in COLLIDING])),
    'plain_colliding_tuples': plain(
        keys_of(*[x + b'\x85' for x in COLLIDING])
    ),
    'colliding_set': in_archive(set_often('colliding')),
    'encode_often': in_archive(encode_often()),
    'plain_encode_often': plain(encode_often()),
    'set_often': in_archive(set_often('long')),
    'frozen_sets': plain(frozen_sets()),
    'state_twice': plain(state_twice()),
    'view_of_an_array': plain(view_of_an_array()),
    'one_storage_often': one_storage_often,
}
CORPUS = {**PICKLES, **ARCHIVES, **CRAFTED, **SAFETENSORS}


def write(folder):
    """Writes all files, returns their paths."""
    paths = []
    for name, make in CORPUS.items():
        path = folder / (name if '.' in name else f'{name}.pth')
        make(path)
        paths.append(path)
    return paths
