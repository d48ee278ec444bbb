import gc
import io
import logging
import re
import sys

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from rich.console import Console
from torch.utils.data import Dataset

from mmfaseg.engine import ProgressBarHook
from mmfaseg.engine.hooks import progress_bar_hook

pytestmark = pytest.mark.smoke


class Numbers(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {'inputs': torch.ones(1)}


class Slope(BaseModel):
    """A model whose first loss is 3, and that can fail in an iteration."""

    def __init__(self, fails_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1,), 3.0))
        self.calls = 0
        self.fails_at = fails_at

    def forward(self, inputs, mode='tensor'):
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError('failure in the model')
        MMLogger.get_current_instance().info(f'logged in call {self.calls}')
        return {'loss': self.weight.sum()}


def make_runner(tmp_path, name, model=None, max_iters=4, **settings):
    return Runner(
        model=model or Slope(),
        work_dir=str(tmp_path),
        train_dataloader={
            'dataset': Numbers(),
            'sampler': {'type': 'InfiniteSampler'},
            'batch_size': 1,
            'collate_fn': {'type': 'default_collate'},
        },
        train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': max_iters},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.25}},
        log_processor={'by_epoch': False},
        default_hooks={
            'checkpoint': {
                'type': 'CheckpointHook',
                'by_epoch': False,
                'interval': 2,
            },
        },
        experiment_name=f'progress_{name}',
        **settings,
    )


def shown_lines(text):
    return [line for line in text.splitlines() if line.startswith('iter ')]


@pytest.fixture
def terminal(monkeypatch):
    """Replaces the console by a terminal that keeps its output."""
    screen = io.StringIO()

    def make_console():
        return Console(file=screen, force_terminal=True, width=100)

    monkeypatch.setattr(progress_bar_hook, 'Console', make_console)
    monkeypatch.setenv('TERM', 'xterm')
    return screen


def test_plain_lines_without_control_characters(tmp_path, capsys):
    runner = make_runner(tmp_path, 'plain')
    runner.register_hook(ProgressBarHook(interval=0, window_size=1))
    runner.train()
    out = capsys.readouterr().out
    lines = shown_lines(out)
    assert '\x1b' not in out and '\r' not in out
    assert [line.split()[1] for line in lines] == [
        '0/4',
        '1/4',
        '2/4',
        '3/4',
        '4/4',
    ]
    # SGD subtracts 0.25 from the weight, which is the loss
    losses = [re.search(r'loss ([\d.]+)', line) for line in lines[1:]]
    assert [loss.group(1) for loss in losses] == ['3', '2.75', '2.5', '2.25']
    assert 'lr 2.5e-01' in lines[1]
    assert 'eta 0:00:00' in lines[-1] and 'it/s' in lines[-1]


def test_last_line_has_latest_score(tmp_path, capsys):
    runner = make_runner(tmp_path, 'score')
    hook = ProgressBarHook(interval=0)
    runner.register_hook(hook)

    class ScoreHook(Hook):
        def after_train_epoch(self, runner):
            hook.after_val_epoch(runner, {'mIoU': 71.25, 'aAcc': 90.0})

    runner.register_hook(ScoreHook())
    runner.train()
    lines = shown_lines(capsys.readouterr().out)
    assert lines[-1].startswith('iter 4/4') and 'mIoU 71.2' in lines[-1]
    assert 'mIoU' not in lines[-2]


def test_plain_lines_are_sparse_but_include_the_last(tmp_path, capsys):
    runner = make_runner(tmp_path, 'rare')
    runner.register_hook(ProgressBarHook(interval=1000))
    runner.train()
    lines = shown_lines(capsys.readouterr().out)
    assert [line.split()[1] for line in lines] == ['0/4', '4/4']


def test_resumed_run_starts_at_its_iteration(tmp_path, capsys):
    make_runner(tmp_path, 'first', max_iters=2).train()
    runner = make_runner(tmp_path, 'resumed', resume=True)
    runner.register_hook(ProgressBarHook(interval=0))
    capsys.readouterr()
    runner.train()
    lines = shown_lines(capsys.readouterr().out)
    assert [line.split()[1] for line in lines] == ['2/4', '3/4', '4/4']


def test_resumed_bar_starts_at_its_iteration(tmp_path, terminal):
    make_runner(tmp_path, 'first_bar', max_iters=2).train()
    runner = make_runner(tmp_path, 'resumed_bar', resume=True)
    runner.register_hook(ProgressBarHook())
    runner.train()
    assert '2/4' in terminal.getvalue()
    assert '0/4' not in terminal.getvalue()


def test_bar_restores_streams(tmp_path, terminal):
    runner = make_runner(tmp_path, 'bar')
    runner.register_hook(ProgressBarHook())
    console_handlers = [
        handler
        for handler in runner.logger.handlers
        if type(handler) is logging.StreamHandler
    ]
    streams = [handler.stream for handler in console_handlers]
    stdout = sys.stdout
    runner.train()
    text = terminal.getvalue()
    assert '4/4' in text and 'loss' in text
    assert 'logged in call 2' in text  # printed above the bar
    assert '\x1b[?25l' in text  # cursor hidden ...
    assert text.rindex('\x1b[?25h') > text.rindex('\x1b[?25l')  # and back
    assert sys.stdout is stdout
    assert [handler.stream for handler in console_handlers] == streams


def test_bar_is_closed_after_an_exception(tmp_path, terminal):
    runner = make_runner(tmp_path, 'fails', model=Slope(fails_at=3))
    runner.register_hook(ProgressBarHook())
    stdout = sys.stdout
    with pytest.raises(RuntimeError, match='failure in the model'):
        runner.train()
    del runner
    gc.collect()
    assert sys.stdout is stdout
    text = terminal.getvalue()
    assert text.rindex('\x1b[?25h') > text.rindex('\x1b[?25l')


def test_only_main_process_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress_bar_hook, 'is_main_process', lambda: False)
    runner = make_runner(tmp_path, 'worker')
    runner.register_hook(ProgressBarHook(interval=0))
    runner.train()
    assert shown_lines(capsys.readouterr().out) == []


@pytest.mark.parametrize('argument', [{'interval': -1}, {'window_size': 0}])
def test_invalid_arguments_raise(argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        ProgressBarHook(**argument)
