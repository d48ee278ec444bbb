"""tools/analysis_tools/study.py: a grid that is run once, whatever happens."""

import json
import math
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from scipy import stats

ROOT = Path(__file__).parent.parent
TOOLS = ROOT / 'tools/analysis_tools'
BASE = ROOT / 'tests/configs/fcn_shapes.py'
ROWS = ('plain', 'wide')
MANY = 400  # iterations of a run that is to be interrupted


@pytest.fixture
def tool(monkeypatch):
    """The modules of the tool."""
    monkeypatch.syspath_prepend(TOOLS)
    import study
    import study_cell
    import study_report

    return study, study_cell, study_report


@pytest.fixture(scope='session')
def configs(tmp_path_factory) -> list[Path]:
    """Two rows: the same backbone, another head."""
    folder = tmp_path_factory.mktemp('configs')
    paths = []
    for row, channels in zip(ROWS, (4, 8), strict=True):
        path = folder / f'{row}_tiny.py'
        path.write_text(
            f'_base_ = {str(BASE)!r}\n'
            f'model = dict(decode_head=dict(channels={channels}))\n'
            'train_dataloader = dict(dataset=dict(pipeline=[\n'
            "    dict(type='mmfaseg.GenerateShapes'),\n"
            "    dict(type='RandomFlip', prob=0.5),\n"
            "    dict(type='PhotoMetricDistortion'),\n"
            "    dict(type='PackSegInputs'),\n"
            ']))\n'
        )
        paths.append(path)
    return paths


def _command(configs, out, *arguments):
    return [
        *(sys.executable, str(TOOLS / 'study.py'), *map(str, configs)),
        *('--out', str(out), *map(str, arguments)),
    ]


def _run(*arguments, code=0):
    done = subprocess.run(
        _command(*arguments),
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def _table(printed: str) -> str:
    return printed[printed.index('cells; mean') :]


@pytest.fixture(scope='session')
def grid(tmp_path_factory, configs):
    """Two rows and two seeds, run; the folder and what was printed."""
    out = tmp_path_factory.mktemp('study')
    return out, _run(configs, out, '--seeds', 0, 1, '--jobs', 2)


def test_all_cells_are_in_the_table(grid):
    out, printed = grid
    assert '4 of 4 cells' in printed
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['baseline'] == 'plain'
    assert [x['row'] for x in summary['rows']] == list(ROWS)
    for row in summary['rows']:
        assert row['seeds'] == [0, 1]
        for seed in (0, 1):
            path = out / row['row'] / f'seed_{seed}/result.json'
            measured = json.loads(path.read_text())['metrics']['mIoU']
            assert row['metrics']['mIoU']['cells'][str(seed)] == measured
    page = (out / 'table.md').read_text()
    assert '| plain | 2 |' in page
    assert 'seed 0 | seed 1' in page
    for name in ('curves', 'differences'):
        assert (out / f'{name}.png').stat().st_size > 5000


def test_finished_grid_prints_the_same_table(grid, configs):
    out, printed = grid
    files = sorted(out.rglob('*result.json'))
    before = [x.stat().st_mtime_ns for x in files]
    again = _run(configs, out, '--seeds', 0, 1)
    assert _table(again) == _table(printed)
    assert 'done: ' not in again
    assert [x.stat().st_mtime_ns for x in files] == before
    assert len(files) == 4


@pytest.mark.slow
def test_one_more_row_or_seed_runs_only_that(grid, configs, tmp_path):
    out, _ = grid
    printed = _run(configs[:1], out, '--seeds', 0, 1, 2, '--metrics', 'aAcc')
    assert printed.count('done: ') == 1
    assert '3 of 3 cells' in printed
    assert 'mIoU' not in _table(printed)


def test_other_training_in_the_same_folder_raises(grid, configs):
    out, _ = grid
    changed = ('--cfg-options', 'optim_wrapper.optimizer.lr=0.5')
    printed = _run(configs, out, '--seeds', 0, *changed, code=1)
    assert 'another version' in printed
    assert '--out' in printed


@pytest.mark.slow
def test_changed_test_settings_do_not_retrain(grid, configs, tool):
    """... and what concerns only files and the screen does not even that."""
    out, _ = grid
    log = out / 'plain/seed_0/output.txt'
    before = log.read_text()
    shown = ('--cfg-options', 'default_hooks.logger.interval=7')
    assert 'done: ' not in _run(configs[:1], out, '--seeds', 0, *shown)
    changed = ('--cfg-options', 'test_dataloader.dataset.length=3')
    printed = _run(configs[:1], out, '--seeds', 0, *changed)
    assert printed.count('done: ') == 1
    added = log.read_text().removeprefix(before)
    assert 'Iter(test)' in added
    assert 'Iter(train)' not in added
    # and back, for the tests after this one
    _run(configs[:1], out, '--seeds', 0)


def test_rows_see_the_same_images_and_start_from_the_same_backbone(
    configs, tool, tmp_path
):
    _, study_cell, _ = tool
    seen = []
    for config in configs:
        cell = study_cell.Cell(config, 3, tmp_path, {})
        cfg = cell.load_config()
        study_cell.share_backbone(cfg, 3, tmp_path)
        runner = Runner.from_cfg(cfg)
        runner._init_model_weights()
        weight = runner.model.backbone.stem[0].weight.detach()
        loader = iter(Runner.build_dataloader(cfg.train_dataloader, seed=3))
        images = torch.stack(
            [x for _ in range(4) for x in next(loader)['inputs']]
        )
        seen.append((weight.clone(), images, runner.model.decode_head))
    (one, first, head), (two, second, other) = seen
    assert torch.equal(one, two)
    assert torch.equal(first, second)
    assert len(first.unique(dim=0)) > 4
    assert head.channels != other.channels


def test_two_processes_do_not_share_a_cell(tool, configs, tmp_path):
    _, study_cell, _ = tool
    from result_files import LockedError, folder_lock

    cell = study_cell.Cell(configs[0], 0, tmp_path, {})
    with (
        folder_lock(cell.work_dir),
        pytest.raises(LockedError, match='seed_0'),
    ):
        study_cell.run(cell)
    with folder_lock(cell.work_dir):
        pass  # free again


def test_results_record_versions(grid):
    out, _ = grid
    result = json.loads((out / 'plain/seed_0/result.json').read_text())
    mark = json.loads((out / 'plain/seed_0/cell.json').read_text())
    (code,) = mark['codes']
    assert f'(sources {code})' in result['versions']['mmfaseg']
    assert f'sources {code}' in (out / 'table.md').read_text()


@pytest.mark.slow
@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_killed_run_continues(configs, tool, tmp_path, how):
    _, study_cell, _ = tool
    options = ('--seeds', 0, '--cfg-options', f'train_cfg.max_iters={MANY}')
    command = _command(configs[:1], tmp_path, *options)
    cell = study_cell.Cell(configs[0], 0, tmp_path, {})
    process = subprocess.Popen(
        command,
        start_new_session=True,
        # what started the tests may have had it ignored
        preexec_fn=partial(signal.signal, how, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while cell.iteration() < 10 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(how)
    process.wait()
    reached = cell.iteration()
    assert 10 <= reached < MANY
    assert not (cell.work_dir / 'result.json').exists()
    _run(configs[:1], tmp_path, *options)
    steps = [x['step'] for x in cell.scalars() if 'loss' in x]
    assert steps[-1] == MANY
    assert len(steps) < MANY + reached, 'it must not begin again'
    trained = json.loads((cell.work_dir / 'trained.json').read_text())
    assert trained['seconds'] is None  # nobody knows
    assert trained['iterations'] == MANY


@pytest.mark.slow
def test_failed_runs_are_reported_and_others_continue(configs, tmp_path):
    broken = tmp_path / 'broken_tiny.py'
    broken.write_text(
        configs[0].read_text().replace('channels=4', 'channels=0')
    )
    out = tmp_path / 'out'
    printed = _run([broken, configs[1]], out, '--seeds', 0, code=1)
    assert 'broken, seed 0: FAILED' in printed.replace('\n', '')
    assert '1 of 2 cells' in printed
    # the baseline is missing: no difference is claimed
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['rows'][1]['metrics']['mIoU']['difference'] is None


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere.py'], 'no such config: nowhere.py'),
        ([BASE, BASE], "are both row 'fcn'"),
        ([BASE, '--baseline', 'other'], 'none of the rows'),
        ([BASE, '--seeds', '1', '1'], 'a seed twice'),
        ([BASE, '--report-only'], 'no cell is finished'),
    ],
)
def test_invalid_arguments_raise(tool, capsys, tmp_path, arguments, message):
    study, _, _ = tool
    words = [*map(str, arguments), '--out', str(tmp_path)]
    assert study.main(words) == 1
    assert message in capsys.readouterr().out.replace('\n', ' ')


def test_interval_is_that_of_a_paired_t_test(tool):
    _, _, report = tool
    generator = np.random.default_rng(0)
    ours, theirs = np.array([[1], [0]]) + generator.normal(size=(2, 5))
    found = report.paired_difference(
        dict(enumerate(ours)), dict(enumerate(theirs))
    )
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    low, high = (
        found['mean'] + sign * found['half_width'] for sign in (-1, 1)
    )
    assert (low, high) == pytest.approx((interval.low, interval.high))
    # only common seeds count, and one pair has no interval
    one = report.paired_difference({1: 3.0, 2: 5.0}, {2: 4.0, 3: 9.0})
    assert one == dict(mean=1.0, pairs=1)
    assert report.paired_difference({1: 3.0}, {2: 4.0}) is None
    assert report.paired_difference({1: math.nan}, {1: 4.0}) is None


def test_table_goes_between_the_marks_of_a_page(tool, tmp_path):
    _, study_cell, report = tool
    page = tmp_path / 'README.md'
    page.write_text(f'above\n{report.BEGIN}\nold\n{report.END}\nbelow\n')
    for text in ('first\n', 'second\n'):
        report.insert(text, page)
    expected = f'above\n{report.BEGIN}\nsecond\n{report.END}\nbelow\n'
    assert page.read_text() == expected
    for wrong in ('no marks', f'{report.END}\n{report.BEGIN}\n'):
        page.write_text(wrong)
        with pytest.raises(study_cell.StudyError, match='study: begin'):
            report.insert('text', page)


def test_every_ablation_is_a_row_of_its_own(tool):
    """The names of the files are the names of the rows."""
    _, study_cell, _ = tool
    paths = sorted((ROOT / 'configs/ablations').glob('*.py'))
    rows = [study_cell.Cell(x, 0, Path(), {}).row for x in paths]
    assert len(set(rows)) == len(rows) >= 20
    parts = ('train_dataloader', 'optim_wrapper', 'train_cfg')
    first = Config.fromfile(paths[0])
    for path in paths:
        cfg = Config.fromfile(path)
        steps = cfg.train_dataloader.dataset.pipeline
        if '-labels-' in path.stem:
            assert steps.pop(1)['type'] == 'mmfaseg.NoisyLabels'
        for part in (*parts, 'test_evaluator', 'param_scheduler'):
            assert cfg.get(part) == first.get(part), path
        assert cfg.model.backbone == first.model.backbone
