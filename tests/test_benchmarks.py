"""Benchmarks of models: rows, incorrect results and interrupted runs."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent.parent / 'benchmarks'
STAGES = (
    'backbone',
    'pixel decoder',
    'decoder',
    'post-processing',
    'whole',
    'label map',
)
SMALL = ['--sizes', '64x64', '--seconds', '0', '--classes', '5']


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import bench_model

    return bench_model


def _run(bench, monkeypatch, *words):
    monkeypatch.setattr('sys.argv', ['bench_model.py', *SMALL, *words])
    with pytest.raises(SystemExit) as stopped:
        bench.main()
    return stopped.value.code


@pytest.mark.slow
def test_every_stage_of_both_models_is_measured(bench, monkeypatch, tmp_path):
    file, image = tmp_path / 'rows.json', tmp_path / 'cost.png'
    words = ('--json', str(file), '--plot', str(image))
    assert _run(bench, monkeypatch, *words) == 0
    rows = json.loads(file.read_text())['rows']
    assert [(x['op'], x['variant']) for x in rows] == [
        (stage, model)
        for stage in STAGES
        for model in ('mmfaseg FASeg', 'mmseg Mask2Former')
    ] + [('HRCA, 3 layers', 'mmfaseg FASeg')]
    assert all(x['ms'] > 0 and x['size'] == '64x64' for x in rows)
    assert all(x['floor'] > 0 for x in rows)
    whole = [x['ms'] for x in rows if x['op'] == 'whole']
    found = [x['relative'] for x in rows if x['op'] == 'whole']
    assert found == pytest.approx([whole[0] / whole[1], 1])
    assert image.stat().st_size > 5000


@pytest.mark.slow
def test_incorrect_results_are_not_timed(bench, monkeypatch, tmp_path, capsys):
    plain = bench.reference_scores
    monkeypatch.setattr(
        bench, 'reference_scores', lambda *args: plain(*args).roll(1, 1)
    )
    file = tmp_path / 'rows.json'
    assert _run(bench, monkeypatch, '--json', str(file)) == 1
    assert 'WRONG' in capsys.readouterr().out
    for row in json.loads(file.read_text())['rows']:
        ours = row['variant'] == 'mmfaseg FASeg'
        assert (row['ms'] is None) == ours


@pytest.mark.smoke
def test_interrupted_run_keeps_rows(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(FOLDER)
    from measure import Row, run_all

    def fail():
        raise KeyboardInterrupt

    file = tmp_path / 'rows.json'
    first = Row('op', '1x1', 'ours', 1.0)
    with pytest.raises(KeyboardInterrupt):
        run_all('title', [lambda: [first], fail], str(file))
    (row,) = json.loads(file.read_text())['rows']
    assert (row['op'], row['ms']) == ('op', 1.0)


@pytest.mark.smoke
def test_floor_is_the_slower_of_product_and_copy(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from measure import Floor, count_work

    image, weight = torch.ones(2, 3, 8, 8), torch.ones(5, 3, 1, 1)
    query = torch.ones(1, 2, 6, 4)  # 2 heads, 6 queries, 4 channels
    work = count_work(lambda: torch.conv2d(image, weight))
    assert work == (2 * 5 * 3 * 64, 4 * 2 * 5 * 64)
    attention = torch.nn.functional.scaled_dot_product_attention
    work = count_work(lambda: attention(query, query, query))
    assert work.multiply_adds == 2 * (2 * 6 * 6 * 4)
    floor = Floor(torch.device('cpu'), torch.float32)
    twice = work._replace(multiply_adds=2 * floor.SIDE**3, num_bytes=0)
    assert floor.of(twice, 30.0, 1.0) == 60
    half = work._replace(multiply_adds=0, num_bytes=floor.copied // 2)
    assert floor.of(half, 30.0, 8.0) == 4


# records its arguments, and fails for one script
FAKE_PYTHON = """#!/bin/sh
{ printf "'%s' " "$@"; echo; } >> "$0.calls"
case "$*" in *"${FAILING:-nothing}"*) echo broken; exit 3;; esac
"""


@pytest.fixture
def gpu_script(tmp_path):
    """Runs gpu.sh without Python; returns status, output and commands."""
    python = tmp_path / 'python'
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    calls = tmp_path / 'python.calls'

    def run(**variables):
        calls.write_text('')
        done = subprocess.run(
            [FOLDER / 'gpu.sh', tmp_path / 'my results'],
            env={**os.environ, 'PYTHON': str(python), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, calls.read_text().splitlines()

    return run


def test_gpu_script_repeats_only_the_parts_that_failed(gpu_script, tmp_path):
    status, printed, commands = gpu_script(FAILING='bench_ops.py')
    assert status == 1
    assert 'bench_ops: failed with status 3' in printed
    assert printed.splitlines()[-1] == 'failed: bench_ops'
    assert printed.count(': passed in ') == len(commands) - 1 == 13
    log = tmp_path / 'my results/bench_ops.log'
    assert log.read_text() == 'broken\n'
    status, printed, commands = gpu_script()
    assert status == 0
    assert printed.count(': passed in ') == len(commands) == 1
    assert shlex.split(commands[0])[:3] == [
        *('benchmarks/bench_ops.py', '--device', 'cuda')
    ]
    assert gpu_script() == (0, '', [])


def test_gpu_script_stops_at_the_total_time(gpu_script):
    status, printed, commands = gpu_script(LIMIT_FACTOR='0')
    assert (status, commands) == (1, [])
    assert 'camvid: no time left; repeat the command' in printed


def test_gpu_script_uses_existing_options(
    gpu_script, bench, monkeypatch, root
):
    monkeypatch.syspath_prepend(root / 'tools/analysis_tools')
    import bench_ops
    import study

    parsers = {
        'bench_model.py': bench.parse_args,
        'bench_ops.py': bench_ops.parse_args,
        'study.py': study.parse_args,
    }
    _, _, commands = gpu_script(DEVICE='cpu', SIZE='64x64')
    parsed = []
    for command in commands:
        words = shlex.split(command)
        name = Path(words[0]).name
        if name in parsers:
            monkeypatch.setattr('sys.argv', words)
            parsed.append((name, parsers[name]()))
    models = [args for name, args in parsed if name == 'bench_model.py']
    assert [name for name, _ in parsed].count('study.py') == 1
    assert {(x.amp, x.batch) for x in models} == {
        (amp, batch)
        for amp in (None, 'bfloat16', 'float16')
        for batch in (1, 8)
    }
    assert {x.device.type for x in models} == {'cpu'}
    monkeypatch.chdir(root)
    cells = study.make_cells(study.parse_args())
    assert [x.row for x in cells] == ['mask2former', 'faseg']


@pytest.mark.slow
def test_scale_sweeps_one_dimension_at_a_time(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    import bench_scale

    monkeypatch.setattr(
        bench_scale,
        'SWEEPS',
        {'batch size': (1, 2), 'classes': (5, 20)},
    )
    monkeypatch.setitem(bench_scale.DEFAULTS, 'megapixels', 1 / 256)
    file, image = tmp_path / 'rows.json', tmp_path / 'scale.png'
    words = ['bench_scale.py', '--json', str(file), '--plot', str(image)]
    monkeypatch.setattr('sys.argv', words)
    bench_scale.main()
    rows = json.loads(file.read_text())['rows']
    assert [(x['op'], x['size']) for x in rows] == [
        ('batch size', '1'),
        ('batch size', '2'),
        ('classes', '5'),
        ('classes', '20'),
    ]
    assert all(x['ms'] > 0 for x in rows)
    assert rows[1]['extra'] == pytest.approx(2 * rows[0]['extra'], rel=0.05)
    assert 'exponent of classes: ' in capsys.readouterr().out
    assert image.stat().st_size > 5000


def test_exponent_and_area_of_scale(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from bench_scale import SWEEPS, exponent, image_size

    assert exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert image_size(0.25) == (512, 512)
    for area in SWEEPS['megapixels']:
        height, width = image_size(area)
        assert height * width == area * 2**20
        assert height % 32 == width % 32 == 0


def test_largest_image_is_on_the_line_through_two_sizes(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from bench_memory import LARGEST, largest

    for pair in LARGEST:
        assert pair[0][1:] == pair[1][1:]
    pair = LARGEST[2]  # 512x512 and 1024x1024
    mib = [1000.0, 3400.0]
    assert largest(pair, mib, 3400.0) == pytest.approx(1.048576)
    assert largest(pair, mib, 6600.0) == pytest.approx(2 * 1.048576)


@pytest.mark.slow
def test_operators_are_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    import bench_ops

    monkeypatch.setattr(bench_ops, 'SIZES', {'64x96 B=2': (2, 64, 96)})
    file = tmp_path / 'rows.json'
    words = ['--seconds', '0', '--sizes', '64x96 B=2', '--json', str(file)]
    monkeypatch.setattr('sys.argv', ['', *words])
    with pytest.raises(SystemExit) as stop:
        bench_ops.main()
    printed = capsys.readouterr().out
    assert not stop.value.code, printed  # no result is wrong
    assert 'WRONG' not in printed
    rows = json.loads(file.read_text())['rows']
    assert {'ms_deform_attn', 'hrca_gather'} <= {
        row['op'].split(',')[0].split(' ')[0] for row in rows
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ('mode', 'result'),
    [
        ('whole', 'scores'),
        ('slide', 'labels'),
        ('training, checkpointing', 'loss'),
    ],
)
def test_memory_of_each_mode_is_measured(monkeypatch, mode, result):
    monkeypatch.syspath_prepend(FOLDER)
    from bench_memory import Case, measure

    mib = measure(Case('64x64', mode, 5, result))
    assert mib is None or mib >= 0  # None if the kernel does not report it


class _Worker:
    """A checkout that takes 2 s per run, or 1.5 s after the change."""

    names = ('decoder',)
    num_stopped = 0

    def __init__(self, root, stages, threads):
        self.seconds = {'before': 2.0, 'after': 1.5}[root.name]
        self.runs = 0

    def run(self, name):
        self.runs += 1
        return 100.0 if self.runs == 1 else self.seconds  # warm-up

    def stop(self):
        _Worker.num_stopped += 1


def test_checkouts_are_compared_without_the_warm_up(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.syspath_prepend(FOLDER)
    import compare_checkouts

    file = tmp_path / 'times.json'
    words = ['before', 'after', '--pairs', '3', '--rounds', '1']
    monkeypatch.setattr('sys.argv', ['', *words, '--json', str(file)])
    monkeypatch.setattr(_Worker, 'num_stopped', 0)
    monkeypatch.setattr(compare_checkouts, 'Worker', _Worker)
    compare_checkouts.main()
    assert json.loads(file.read_text()) == {'decoder': [[2.0, 1.5]] * 3}
    row = '| decoder | 2000.0 | 1500.0 | -25.0 [-25.0, -25.0] |'
    assert row in capsys.readouterr().out
    assert _Worker.num_stopped == 6
