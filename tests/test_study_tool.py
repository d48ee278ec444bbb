"""tools/analysis_tools/study.py: cells, resuming and reports."""

import json
import math
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from processes import clear_visualizers
from scipy import stats

ROOT = Path(__file__).parent.parent
TOOLS = ROOT / 'tools/analysis_tools'
BASE = ROOT / 'tests/configs/fcn_shapes.py'
ROWS = ('plain', 'wide')
MANY = 200  # iterations of a run that is interrupted


@pytest.fixture(scope='module')
def tool():
    """The modules of the tool."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        import grid
        import study
        import study_cell
        import study_report

        yield SimpleNamespace(
            grid=grid, study=study, cell=study_cell, report=study_report
        )


@pytest.fixture(scope='module')
def configs(tmp_path_factory) -> list[Path]:
    """Two rows with the same backbone and different heads."""
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


class _FinishedProcess:
    """Runs a cell in this process when it is started."""

    returncode = 0

    def __init__(self, run, cell):
        clear_visualizers()
        run(cell)

    def poll(self):
        return self.returncode


@pytest.fixture(scope='module')
def run_study(tool):
    """Runs the tool and its cells in this process; returns the output."""
    from rich.console import Console

    def run_study(configs, out, *arguments, code=0):
        console = Console(width=130, record=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tool.study, 'POLL_SECONDS', 0)
            patch.setattr(tool.study, 'Console', lambda **_: console)
            patch.setattr(
                tool.study,
                'start',
                lambda cell, jobs: _FinishedProcess(tool.cell.run, cell),
            )
            command = _command(configs, out, *arguments)[2:]
            assert tool.study.main(command) == code
        return console.export_text()

    return run_study


def _table(printed: str) -> str:
    return printed[printed.index('cells; mean') :]


@pytest.fixture(scope='module')
def finished(tmp_path_factory, configs, run_study):
    """The directory and the output of a study of two rows and two seeds."""
    out = tmp_path_factory.mktemp('study')
    return out, run_study(configs, out, '--seeds', 0, 1, '--jobs', 2)


def test_table_has_all_cells(finished):
    out, printed = finished
    assert '4 of 4 cells' in printed
    assert printed.count(': done') == 4
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


def test_finished_study_prints_the_same_table(finished, configs, run_study):
    out, printed = finished
    files = sorted(out.rglob('*result.json'))
    before = [x.stat().st_mtime_ns for x in files]
    again = run_study(configs, out, '--seeds', 0, 1)
    assert _table(again) == _table(printed)
    assert ': done' not in again
    assert [x.stat().st_mtime_ns for x in files] == before
    assert len(files) == 4


def test_additional_seed_runs_only_new_cells(finished, configs, run_study):
    out, _ = finished
    options = ('--seeds', 0, 1, 2, '--metrics', 'aAcc')
    printed = run_study(configs[:1], out, *options)
    assert printed.count(': done') == 1
    assert '3 of 3 cells' in printed
    assert 'mIoU' not in _table(printed)


def test_other_training_in_the_same_directory_raises(
    finished, configs, run_study
):
    out, _ = finished
    changed = ('--cfg-options', 'optim_wrapper.optimizer.lr=0.5')
    printed = run_study(configs, out, '--seeds', 0, *changed, code=1)
    assert 'another version' in printed
    assert '--out' in printed


@pytest.mark.slow
def test_changed_test_settings_do_not_retrain(configs, tmp_path):
    """Settings that do not affect results do not even repeat the test."""
    arguments = (configs[:1], tmp_path, '--seeds', 0)
    _run(*arguments)
    log = tmp_path / 'plain/seed_0/output.txt'
    before = log.read_text()
    shown = ('--cfg-options', 'default_hooks.logger.interval=7')
    assert ': done' not in _run(*arguments, *shown)
    changed = ('--cfg-options', 'test_dataloader.dataset.length=3')
    assert _run(*arguments, *changed).count(': done') == 1
    added = log.read_text().removeprefix(before)
    assert 'Iter(test)' in added
    assert 'Iter(train)' not in added


def test_rows_have_the_same_images_and_initial_backbone(
    configs, tool, tmp_path
):
    seen = []
    for config in configs:
        cell = tool.cell.Cell(config, 3, tmp_path, {})
        cfg = cell.load_config()
        tool.cell.share_backbone(cfg, 3, tmp_path)
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


def test_moving_average_is_tested(configs, tool, tmp_path):
    """The result is that of the checkpoint, as tools/test.py prints it."""
    config = tmp_path / 'average_tiny.py'
    config.write_text(
        f'_base_ = {str(configs[0])!r}\n'
        "custom_hooks = [dict(type='EMAHook', momentum=0.001)]\n"
        'optim_wrapper = dict(optimizer=dict(lr=1.0))\n'
    )
    cell = tool.cell.Cell(config, 0, tmp_path, {})
    clear_visualizers()
    tool.cell.run(cell)
    cfg = cell.load_config()
    cfg.custom_hooks = []
    cfg.load_from = str(cell.work_dir / 'iter_2.pth')
    clear_visualizers()
    metrics = Runner.from_cfg(cfg).test()
    assert cell.result()['metrics'] == tool.cell.in_percent(metrics)


def test_cell_is_locked_by_its_process(tool, configs, tmp_path):
    cell = tool.cell.Cell(configs[0], 0, tmp_path, {})
    with (
        tool.grid.folder_lock(cell.work_dir),
        pytest.raises(tool.grid.GridError, match='seed_0'),
    ):
        tool.cell.run(cell)
    with tool.grid.folder_lock(cell.work_dir):
        pass  # the lock was released


def test_results_record_versions(finished):
    out, _ = finished
    result = json.loads((out / 'plain/seed_0/result.json').read_text())
    mark = json.loads((out / 'plain/seed_0/cell.json').read_text())
    (code,) = mark['codes']
    assert f'(sources {code})' in result['versions']['mmfaseg']
    assert f'sources {code}' in (out / 'table.md').read_text()


@pytest.mark.slow
def test_terminated_run_continues(configs, tool, tmp_path):
    options = ('--seeds', 0, '--cfg-options', f'train_cfg.max_iters={MANY}')
    command = _command(configs[:1], tmp_path, *options)
    cell = tool.cell.Cell(configs[0], 0, tmp_path, {})
    process = subprocess.Popen(
        command,
        start_new_session=True,
        # the signal may be ignored in the parent process
        preexec_fn=partial(signal.signal, signal.SIGTERM, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while cell.iteration() < 10 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    process.wait()
    reached = cell.iteration()
    assert 10 <= reached < MANY
    assert not (cell.work_dir / 'result.json').exists()
    _run(configs[:1], tmp_path, *options)
    steps = [x['step'] for x in cell.scalars() if 'loss' in x]
    assert steps[-1] == MANY
    assert len(steps) < MANY + reached, 'training was not resumed'
    trained = json.loads((cell.work_dir / 'trained.json').read_text())
    assert trained['seconds'] is None  # unknown
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
    # there is no difference without a baseline
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['rows'][1]['metrics']['mIoU']['difference'] is None


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere.py'], 'no config file nowhere.py'),
        ([BASE, BASE], "are both row 'fcn'"),
        ([BASE, '--baseline', 'other'], 'not one of the rows'),
        ([BASE, '--seeds', '1', '1'], 'has duplicates'),
        ([BASE, '--report-only'], 'no cell is finished'),
    ],
)
def test_invalid_arguments_raise(tool, capsys, tmp_path, arguments, message):
    words = [*map(str, arguments), '--out', str(tmp_path)]
    assert tool.study.main(words) == 1
    assert message in capsys.readouterr().out.replace('\n', ' ')


def test_interval_equals_paired_t_test(tool):
    report = tool.report
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
    # only common seeds are used, and one pair has no interval
    one = report.paired_difference({1: 3.0, 2: 5.0}, {2: 4.0, 3: 9.0})
    assert one == dict(mean=1.0, pairs=1)
    assert report.paired_difference({1: 3.0}, {2: 4.0}) is None
    assert report.paired_difference({1: math.nan}, {1: 4.0}) is None


def test_table_replaces_text_between_markers(tool, tmp_path):
    report = tool.report
    page = tmp_path / 'README.md'
    page.write_text(f'above\n{report.BEGIN}\nold\n{report.END}\nbelow\n')
    for text in ('first\n', 'second\n'):
        report.insert(text, page)
    expected = f'above\n{report.BEGIN}\nsecond\n{report.END}\nbelow\n'
    assert page.read_text() == expected
    for wrong in ('no markers', f'{report.END}\n{report.BEGIN}\n'):
        page.write_text(wrong)
        with pytest.raises(tool.grid.GridError, match='study: begin'):
            report.insert('text', page)


@pytest.mark.parametrize(
    ('pattern', 'number'),
    [
        ('ablations/*.py', 20),
        ('ablations_camvid/*-1k_*.py', 4),
        ('ablations_camvid/*-2k_*.py', 2),
    ],
)
def test_ablations_have_unique_rows_and_the_same_settings(
    tool, pattern, number
):
    paths = sorted((ROOT / 'configs').glob(pattern))
    rows = [tool.cell.Cell(x, 0, Path(), {}).row for x in paths]
    assert len(set(rows)) == len(rows) >= number
    parts = (
        *('train_dataloader', 'test_evaluator', 'optim_wrapper'),
        *('train_cfg', 'param_scheduler', 'custom_hooks'),
    )
    first = Config.fromfile(paths[0])
    for path in paths:
        cfg = Config.fromfile(path)
        steps = cfg.train_dataloader.dataset.pipeline
        if '-labels-' in path.stem:
            assert steps.pop(1)['type'] == 'mmfaseg.NoisyLabels'
        for part in parts:
            assert cfg.get(part) == first.get(part), path
        assert cfg.model.backbone == first.model.backbone
