from collections import Counter, OrderedDict

import corpus
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfaseg.checkpoints.untrusted import UntrustedError, load_untrusted

READ = """
import os, resource, sys, time
from mmengine.runner import CheckpointLoader
import mmfaseg
from mmfaseg.checkpoints import read_state

read = dict(
    converter=read_state,
    mmengine=lambda path: CheckpointLoader.load_checkpoint(path, 'cpu'),
)[sys.argv[1]]
os.chdir(os.path.dirname(sys.argv[2]))
for path in sys.argv[2:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.time()
    try:
        read(path)
        told = 'LOADED'
    except ValueError as error:
        told = 'refused' if path in str(error) else f'unnamed: {error}'
    except Exception as error:
        told = f'{type(error).__name__}: {error}'
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = told.splitlines()[0]
    print('RESULT', after - before, time.time() - start, told, path)
"""
MAX_KIB = 64 * 1024


@pytest.mark.smoke
@pytest.mark.parametrize('way', ['converter', 'mmengine'])
def test_corpus_is_refused_in_bounded_memory(way, tmp_path, run_python):
    """mmengine's way is that of resuming, testing and the inferencer."""
    paths = [str(path) for path in corpus.write(tmp_path)]
    done = run_python('-c', READ, way, *paths)
    lines = [
        line.split(' ', 4)[1:]
        for line in done.stdout.splitlines()
        if line.startswith('RESULT')
    ]
    assert len(lines) == len(corpus.CORPUS)
    for kib, seconds, told, path in lines:
        assert told == 'refused', (path, told)
        assert int(kib) < MAX_KIB, path
        assert float(seconds) < 20, path
    assert not (tmp_path / 'sprung').exists()


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)
)
KEYS = st.one_of(
    st.text(max_size=9),
    st.integers(-(2**48), 2**48),
    st.tuples(st.integers(-(2**48), 2**48), st.text()),
)
PLAIN = st.recursive(
    st.one_of(SCALARS, st.tuples(SCALARS, SCALARS)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.tuples(inner, inner, inner),
        st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(content=PLAIN, old=st.booleans())
def test_plain_data_of_any_kind_is_loaded(content, old, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / 'plain.pth'
    shared = torch.arange(6.0)
    written = dict(a=content, b=[content, shared[:2], shared[2:]])
    torch.save(written, path, _use_new_zipfile_serialization=not old)
    read = load_untrusted(path)
    assert repr(read['a']) == repr(content)  # NaN is not equal to itself
    assert read['b'][2].tolist() == [2, 3, 4, 5]
    assert repr(load_untrusted(path, use_mmap=True)) == repr(read)


def test_all_states_of_a_training_are_loaded(tmp_path):
    """Complex, half and whole numbers, sparse maps, parameters, generators."""
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=False)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = dict(
        weights=layer.state_dict(),
        parameter=torch.nn.Parameter(torch.zeros(2)),
        optimizer=optimizer.state_dict(),
        generator=torch.get_rng_state(),
        half=torch.ones(3, dtype=torch.bfloat16),
        complex=torch.ones(3, dtype=torch.complex64),
        flags=torch.tensor([True, False]),
        transposed=torch.zeros(2, 3).mT,
        position=torch.arange(5).expand(1, -1),
        broadcast=torch.zeros(1, 1).expand(1, 100_000),
        letters=bytearray(b'abc'),
        size=torch.Size((1, 2)),
        dtype=torch.float16,
        names={'a', 'b'},
        counts=Counter('abca'),
        many=tuple(range(120_000)),
    )
    content['itself'] = content
    path = tmp_path / 'x.pth'
    torch.save(content, path)
    read = load_untrusted(path)
    assert read['itself'] is read
    assert read['names'] == {'a', 'b'} and read['size'] == (1, 2)
    assert torch.equal(read['transposed'], content['transposed'])
    assert read['optimizer']['state'][0]['step'] == 1


def test_refusals_say_why(tmp_path):
    for name, why in dict(
        deflated='data.pkl in it is compressed',
        overlapping='its entries would be 10496',
        expanded=r'it declares a tensor of shape \(68719476736,\)',
        archive_zeros=r'it calls builtins\.bytearray with unusual argum',
        detour=r'it calls torch\._tensor\._rebuild_from_type_v2 with unus',
        archive_runs_code=r'it calls posix\.mkdir\)',
        archive_doubled_tuple='has 1048575 entries, 20 deep',
        archive_big_array=r'_reconstruct with unusual arguments',
        two_directories='its directory does not stand before its end',
        other_case=r'it calls builtins\.bytearray',
        old_with_archive=r'it calls builtins\.bytearray',
    ).items():
        path = tmp_path / f'{name}.pth'
        corpus.CORPUS[name](path)
        with pytest.raises(UntrustedError, match=why) as raised:
            load_untrusted(path)
        assert f'{name}.pth cannot be read as weights' in str(raised.value)
        assert '\n' not in str(raised.value)
