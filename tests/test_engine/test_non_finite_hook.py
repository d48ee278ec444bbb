"""Non-finite values raise with their origin and keep the weights."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmfaseg.engine import NonFiniteHook
from mmfaseg.utils.non_finite import NonFiniteError, find_non_finite

CONFIG = 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
BLOCK = 'decode_head.transformer_decoder.layers.2'


@HOOKS.register_module(force=True)
class PlantHook(Hook):
    """Inserts a value in some iterations, and records the weights."""

    def __init__(self, where, value, at):
        self.where, self.value, self.at = where, float(value), at
        self.weights, self.handles = [], []

    def before_train(self, runner):
        if self.where == 'gradient':
            parameter = runner.model.get_parameter(f'{BLOCK}.ffn.2.bias')
            parameter.register_hook(lambda x: self.spoil(runner, x))
        if self.where == 'feature':
            module = runner.model.get_submodule(f'{BLOCK}.ffn')
            module.register_forward_hook(
                lambda _, __, x: self.spoil(runner, x)
            )

    def spoil(self, runner, x):
        if runner.iter in self.at:
            x = x.clone()
            x.view(-1)[3] = self.value
        return x

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.where == 'weight' and runner.iter in self.at:
            name = f'{BLOCK}.cross_attn.attn.in_proj_weight'
            runner.model.get_parameter(name).data[0, 0] = self.value
        if self.where == 'image' and runner.iter in self.at:
            data_batch['inputs'][0] = data_batch['inputs'][0].float()
            data_batch['inputs'][0][0, 0, 0] = self.value

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        state = runner.model.state_dict()
        self.weights.append({k: v.clone() for k, v in state.items()})


@pytest.fixture
def train(root, tmp_path):
    """Runs four iterations; returns the weights after each, and the log."""

    def train(where, value, at, plain=False, **arguments):
        cfg = Config.fromfile(root / CONFIG)
        cfg.work_dir = str(tmp_path / f'{where}_{value}_{arguments}')
        cfg.train_cfg.update(max_iters=4, val_interval=100)
        cfg.train_dataloader.update(
            batch_size=2, num_workers=0, persistent_workers=False
        )
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
        hook = dict(type='mmfaseg.NonFiniteHook', **arguments)
        cfg.custom_hooks = [
            dict(type='PlantHook', where=where, value=value, at=at),
            *([] if plain else [hook]),
            dict(type='EMAHook'),  # copies the model
        ]
        cfg.default_hooks.checkpoint.save_best = None
        cfg.experiment_name = cfg.visualizer.name = str(hash(cfg.work_dir))
        cfg.randomness = dict(seed=0)
        runner = Runner.from_cfg(cfg)
        (plant,) = (x for x in runner.hooks if isinstance(x, PlantHook))
        try:
            runner.train()
        finally:
            train.weights = runner.model.state_dict()
            # patches are removed, also after errors; the remaining one is of
            # the schedulers
            step = vars(runner.optim_wrapper).get('step')
            assert type(step).__name__ == 'function'
            assert 'run_iter' not in vars(runner.train_loop)
        return plant.weights

    return train


def assert_finite(state):
    for name, value in state.items():
        assert not value.is_floating_point() or value.isfinite().all(), name


@pytest.mark.parametrize('value', ['nan', 'inf', '-inf'])
def test_non_finite_gradient_raises_and_keeps_weights(train, value):
    message = (
        rf'iteration 3: the gradient of {BLOCK}\.ffn\.2\.bias is not '
        'finite.* evaluation mode are finite'
    )
    with pytest.raises(NonFiniteError, match=message):
        train('gradient', value, at=[2])
    assert_finite(train.weights)


def test_skipped_steps_continue_training(train, capsys):
    with_it = train('gradient', 'nan', at=[1], action='skip')
    assert len(with_it) == 4
    assert_finite(with_it[-1])
    name = f'{BLOCK}.ffn.2.weight'
    assert torch.equal(with_it[0][name], with_it[1][name])
    assert not torch.equal(with_it[1][name], with_it[2][name])
    assert '(1 in a row, at most 10)' in capsys.readouterr().out


def test_too_many_skipped_steps_raise(train):
    with pytest.raises(NonFiniteError, match=r'^iteration 3: the gradient'):
        train('gradient', 'nan', [0, 1, 2], action='skip', max_skipped=2)
    # a finite step resets the count
    train('gradient', 'nan', [0, 1, 3], action='skip', max_skipped=2)


def test_error_names_non_finite_weight(train):
    message = (
        rf'the matching cost is not finite.*{BLOCK}\.cross_attn\.attn\.'
        r'in_proj_weight of the model is not finite'
    )
    with pytest.raises(NonFiniteError, match=message):
        train('weight', 'nan', at=[1], action='skip')


def test_error_names_first_non_finite_module(train):
    message = rf'iteration 2: the matching cost.*{BLOCK}\.ffn is the first '
    with pytest.raises(NonFiniteError, match=message):
        train('feature', 'inf', at=[1])
    assert_finite(train.weights)


def test_error_names_non_finite_input(train):
    message = r'iteration 2: .* the images of the batch are not finite'
    with pytest.raises(NonFiniteError, match=message):
        train('image', 'nan', at=[1])


def test_finite_training_is_unchanged(train):
    checked = train('nowhere', '0', at=[])
    plain = train('nowhere', '1', at=[], plain=True)
    assert len(checked) == len(plain) == 4
    for one, two in zip(checked, plain, strict=True):
        for name, value in one.items():
            assert torch.equal(value, two[name])


def patched(step=None):
    """Returns a hook that has patched a runner, and the runner."""
    model = BaseModelOf(torch.nn.Linear(2, 2))
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 1.0))
    if step is not None:
        wrapper.step = step
    runner = SimpleNamespace(
        model=model, optim_wrapper=wrapper, iter=4, train_loop=Loop(wrapper)
    )
    hook = NonFiniteHook()
    hook.before_train(runner)
    return hook, runner


class Loop:
    """The parts of a training loop that the hook uses."""

    def __init__(self, wrapper):
        self.wrapper = wrapper

    def run_iter(self, data):
        self.wrapper.step()


class BaseModelOf(torch.nn.Module):
    """The parts of a mmengine model that the hook uses."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def data_preprocessor(self, data, training):
        raise AssertionError('images of two sizes')


def test_failing_search_keeps_the_error():
    hook, runner = patched()
    for parameter in runner.model.parameters():
        parameter.grad = torch.full_like(parameter, float('inf'))
    message = (
        r'^iteration 5: the gradient of layer\.weight \(and 1 more\) is not '
        r'finite\. the search for its origin failed: .*images of two'
    )
    with pytest.raises(NonFiniteError, match=message):
        runner.train_loop.run_iter({})


def test_step_without_gradients_is_not_skipped():
    _, runner = patched()
    runner.optim_wrapper.step()


def test_method_patches_are_removed_after_training():
    calls = []
    hook, runner = patched(step=lambda: calls.append(1))
    hook.before_train(runner)  # trained twice
    runner.optim_wrapper.step()
    assert calls == [1]
    assert isinstance(runner.optim_wrapper.step, partial)
    hook.after_train(runner)
    assert not isinstance(runner.optim_wrapper.step, partial)
    assert runner.optim_wrapper.step() is None and calls == [1, 1]
    assert 'run_iter' not in vars(runner.train_loop)


def test_other_errors_propagate():
    hook, runner = patched(step=lambda: {}['x'])
    with pytest.raises(KeyError, match='x'):
        runner.train_loop.run_iter({})
    assert 'run_iter' not in vars(runner.train_loop)
    assert not isinstance(runner.optim_wrapper.step, partial)


def test_module_modes_are_unchanged():
    model = BaseModelOf(torch.nn.Sequential(torch.nn.Linear(1, 1)))
    model.layer.eval()
    find_non_finite(model, {})
    assert [x.training for x in model.modules()] == [True, False, False]


def test_several_optimizers_raise():
    wrapper = OptimWrapper(torch.optim.SGD([torch.zeros(1)], 1.0))
    wrappers = OptimWrapperDict(a=wrapper)
    runner = SimpleNamespace(optim_wrapper=wrappers, train_loop=None)
    with pytest.raises(ValueError, match='not support several optimizers'):
        NonFiniteHook().before_train(runner)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(action='hope'), "'hope'"),
        (dict(max_skipped=0), 'at least 1, got 0'),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        NonFiniteHook(**arguments)
