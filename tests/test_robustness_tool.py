"""tools/analysis_tools/robustness.py with an untrained model."""

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.runner import Runner

from mmfaseg.datasets import ImageCorruption

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / 'tools' / 'analysis_tools'
CONFIG = ROOT / 'tests' / 'configs' / 'fcn_shapes.py'
GRID = [('gaussian_noise', 1), ('gaussian_noise', 5), ('fog', 1), ('fog', 5)]
CHOICE = ['--corruptions', 'fog', 'gaussian_noise', '--severities', '1', '5']


@pytest.fixture(autouse=True)
def mmseg_scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory) -> list[Path]:
    """Checkpoints of two models with random weights."""
    cfg = Config.fromfile(CONFIG)
    paths = []
    with DefaultScope.overwrite_default_scope('mmseg'):
        for seed in range(2):
            torch.manual_seed(seed)
            model = MODELS.build(cfg.model)
            torch.nn.init.normal_(model.decode_head.conv_seg.weight)
            paths.append(tmp_path_factory.mktemp('networks') / f'{seed}.pth')
            torch.save(dict(state_dict=model.state_dict()), paths[-1])
    return paths


@pytest.fixture
def tool(monkeypatch):
    """The modules of the tool, and a list of the tested cells."""
    pytest.importorskip('imagecorruptions')
    monkeypatch.syspath_prepend(TOOLS)
    names = 'robustness', 'robustness_tester', 'robustness_results'
    main, tester, results = map(importlib.import_module, names)
    tested = []
    test = tester.Tester.test

    def test_and_record(self, cell):
        tested.append(cell)
        return test(self, cell)

    monkeypatch.setattr(tester.Tester, 'test', test_and_record)
    monkeypatch.setenv('COLUMNS', '120')
    return SimpleNamespace(
        main=main, tester=tester, results=results, tested=tested
    )


@pytest.fixture
def run(tool, checkpoints, tmp_path):
    """Runs the tool in this process, by default on the first model."""

    def run(*options: object, first: tuple = (CONFIG, checkpoints[0])) -> int:
        arguments = [*first, *options, '--out', tmp_path, '--device', 'cpu']
        return tool.main.main([str(x) for x in arguments])

    return run


def _cells(folder: Path, number: int = 0) -> dict[str, dict]:
    text = (folder / 'robustness.json').read_text()
    return json.loads(text)['models'][number]['cells']


def _tables(printed: str) -> str:
    return printed[printed.index('┏') :]


def test_all_cells_are_measured_once(tool, run, tmp_path, capsys):
    assert run(*CHOICE) == 0
    assert tool.tested == [('clean', 0), *GRID]
    cells = _cells(tmp_path)
    keys = [f'{name}/{severity}' for name, severity in tool.tested]
    assert list(cells) == keys
    scores = [cells[key]['mIoU'] for key in keys]
    assert len(set(scores)) > 2
    printed = capsys.readouterr().out
    assert '[5/5] fcn_shapes fog 5: mIoU' in printed
    markdown = (tmp_path / 'robustness.md').read_text()
    for text in (_tables(printed), markdown):
        for name in ('gaussian_noise', 'fog'):
            found = re.search(rf'^\W+{name}.*$', text, re.M)
            assert re.findall(r'\d+\.\d+', found.group())[:2] == [
                f'{cells[f"{name}/{severity}"]["mIoU"]:.2f}'
                for severity in (1, 5)
            ]
    mean = sum(scores[1:]) / 4
    drop = 100 * (1 - mean / scores[0])
    assert f'| {mean:.2f} | {drop:.2f} |' in markdown
    png = (tmp_path / 'robustness.png').read_bytes()
    assert png.startswith(b'\x89PNG')

    assert run(*CHOICE) == 0
    assert len(tool.tested) == 5
    assert _tables(capsys.readouterr().out) == _tables(printed)
    assert (tmp_path / 'robustness.md').read_text() == markdown

    # other cells of the file are kept
    assert run('--corruptions', 'fog', '--severities', 5, 3) == 0
    assert tool.tested[5:] == [('fog', 3)]
    assert set(keys) < set(_cells(tmp_path))


def test_clean_cell_equals_runner(tool, run, checkpoints, tmp_path):
    assert run('--corruptions', 'fog', '--severities', 1) == 0
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(
        dict(work_dir=str(tmp_path / 'w'), load_from=str(checkpoints[0]))
    )
    metrics = Runner.from_cfg(cfg).test()
    assert _cells(tmp_path)['clean/0'] == pytest.approx(dict(metrics))


def test_interrupted_run_continues(tool, run, tmp_path, monkeypatch, capsys):
    test = tool.tester.Tester.test

    def interrupted(self, cell):
        if len(tool.tested) == 2:
            raise KeyboardInterrupt
        return test(self, cell)

    with monkeypatch.context() as context:
        context.setattr(tool.tester.Tester, 'test', interrupted)
        assert run(*CHOICE) == 130
    assert 'to resume' in capsys.readouterr().out
    assert list(_cells(tmp_path)) == ['clean/0', 'gaussian_noise/1']

    assert run(*CHOICE) == 0
    assert tool.tested == [('clean', 0), *GRID]
    resumed = _cells(tmp_path)
    (tmp_path / 'robustness.json').unlink()
    assert run(*CHOICE) == 0
    assert _cells(tmp_path) == resumed


def test_changed_settings_repeat_a_cell(tool, run, checkpoints):
    once = ['--corruptions', 'fog', '--severities', '1']
    other = ('--model', 'fcn_shapes', CONFIG, checkpoints[1])
    fewer = ['--cfg-options', 'test_dataloader.dataset.length=1']
    changes = [
        ([], (CONFIG, checkpoints[0])),
        (['--seed', 1], (CONFIG, checkpoints[0])),
        (['--seed', 1], other),
        (['--seed', 1, *fewer], other),
    ]
    for number, (options, first) in enumerate(changes, 1):
        for _ in range(2):
            assert run(*once, *options, first=first) == 0
            assert len(tool.tested) == 2 * number


@pytest.mark.slow
def test_models_are_compared_from_the_command_line(
    tool, checkpoints, tmp_path, run_python
):
    models = [
        x
        for name, path in zip('ab', checkpoints, strict=True)
        for x in ('--model', name, CONFIG, path)
    ]
    tool_path = TOOLS / 'robustness.py'
    command = [tool_path, *models, *CHOICE, '--out', tmp_path]
    workers = ['--cfg-options', 'test_dataloader.num_workers=2']
    printed = run_python(*command, '--device', 'cpu', *workers).stdout
    assert printed.count('mIoU') == 10
    rows = (tmp_path / 'robustness.md').read_text().splitlines()
    assert [row[:4] for row in rows[4:6]] == ['| a ', '| b ']
    both = [_cells(tmp_path, number) for number in range(2)]
    assert both[0] != both[1]

    # without workers, under another name, the results are the same
    status = tool.main.main(
        [str(x) for x in [CONFIG, checkpoints[0], *command[9:]]]
    )
    assert status == 0
    assert _cells(tmp_path, 2) == both[0]
    assert [_cells(tmp_path, number) for number in range(2)] == both


def test_failed_corruption_is_reported_and_repeated(
    tool, run, tmp_path, monkeypatch, capsys
):
    def fail(self, results):
        if self.corruption == 'fog' and 'test/000001' in results['img_path']:
            raise ValueError('first line\nlast line')
        return results

    with monkeypatch.context() as context:
        context.setattr(ImageCorruption, 'transform', fail)
        assert run(*CHOICE) == 1
    printed = capsys.readouterr().out
    assert 'failed: fcn_shapes, fog 5: last line' in printed
    assert re.search(r'fog +│ +failed │ +failed │ +- ', printed)
    assert _cells(tmp_path)['fog/1'] == dict(error='last line')
    markdown = (tmp_path / 'robustness.md').read_text()
    assert '- fcn_shapes, fog 1: last line' in markdown
    del tool.tested[:]
    assert run(*CHOICE) == 0
    assert tool.tested == GRID[2:]
    assert 'mIoU' in _cells(tmp_path)['fog/1']


def test_failure_in_worker_is_reported(run, tmp_path, monkeypatch):
    def fail(self, results):
        raise ValueError('broken corruption')

    monkeypatch.setattr(ImageCorruption, 'transform', fail)
    workers = ['--cfg-options', 'test_dataloader.num_workers=1']
    assert run('--corruptions', 'fog', '--severities', 1, *workers) == 1
    assert _cells(tmp_path)['fog/1']['error'].endswith('broken corruption')


def test_failed_cell_does_not_affect_the_next(tool, checkpoints, monkeypatch):
    tester = tool.tester.Tester(
        Config.fromfile(CONFIG), str(checkpoints[0]), 'cpu', 0
    )
    expected = tester.test(('clean', 0))
    predict = tester.model.test_step
    batches = []

    def fail_at_the_second(batch):
        batches.append(batch)
        if len(batches) == 2:
            raise ValueError
        return predict(batch)

    monkeypatch.setattr(tester.model, 'test_step', fail_at_the_second)
    with pytest.raises(ValueError):
        tester.test(('fog', 5))
    assert tester.test(('clean', 0)) == expected


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([CONFIG, 'a.pth', '--corruptions', 'fgo'], "'fgo'.*gaussian_noise"),
        ([CONFIG, 'a.pth', '--severities', '6'], 'invalid choice: 6'),
        ([CONFIG], 'needs a checkpoint'),
        ([], '--model for each'),
        ([*('--model', 'a', CONFIG, 'a.pth') * 2], 'must be unique'),
    ],
)
def test_invalid_arguments_raise(tool, arguments, message, capsys):
    with pytest.raises(SystemExit):
        tool.main.parse_args([str(x) for x in arguments])
    assert re.search(message, capsys.readouterr().err)


def test_other_files_are_not_overwritten(tool, run, tmp_path, capsys):
    path = tmp_path / 'robustness.json'
    path.write_text('{"models": [{"name": "x"}]}')
    assert run(*CHOICE) == 1
    assert re.search(r'error: .*move it away', capsys.readouterr().out)
    assert 'cells' not in path.read_text()


def test_metric_without_miou_is_an_error(tool, run, capsys):
    option = 'test_evaluator.iou_metrics=[mFscore]'
    assert run(*CHOICE, '--cfg-options', option) == 1
    printed = capsys.readouterr().out
    assert re.search(r'error: .*mFscore.*no mIoU', printed)


def test_missing_checkpoint_is_an_error(tool, run, capsys):
    assert run(*CHOICE, first=(CONFIG, 'nowhere.pth')) == 1
    assert re.search(r"error: .*'nowhere\.pth'", capsys.readouterr().out)


def test_scope_is_that_of_the_config(tool, checkpoints):
    init_default_scope('mmdet')
    cfg = Config.fromfile(CONFIG)
    assert cfg.test_dataloader.dataset.pipeline[-1].type == 'PackSegInputs'
    tool.tester.Tester(cfg, str(checkpoints[0]), 'cpu', 0)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(pipeline=[]), 'has no pipeline'),
        (dict(pipeline=[dict(type='PackSegInputs')]), 'the first transform'),
        (
            dict(type='ConcatDataset', pipeline=None, datasets=[]),
            'such as ConcatDataset are not supported',
        ),
    ],
)
def test_pipeline_that_does_not_load_the_image_first_raises(
    tool, checkpoints, change, message
):
    cfg = Config.fromfile(CONFIG)
    cfg.test_dataloader.dataset.update(change)
    with pytest.raises(ValueError, match=rf'fcn_shapes\.py: .*{message}'):
        tool.tester.Tester(cfg, str(checkpoints[0]), 'cpu', 0)
