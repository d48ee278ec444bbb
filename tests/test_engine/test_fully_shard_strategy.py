"""FullyShardStrategy in a single process."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import FlexibleRunner
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from mmfaseg.engine.strategies import FullyShardStrategy
from mmfaseg.engine.strategies.fully_shard_strategy import find_blocks
from mmfaseg.engine.strategies.sharded_state import (
    gather_full_state,
    shard_like,
    shard_optimizer_state,
)

CONFIG = 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
PLAIN = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
SHARDED = 'configs/_base_/strategies/fully_shard.py'


@pytest.fixture(scope='module')
def demo(root):
    cfg = Config.fromfile(root / CONFIG)
    cfg.merge_from_dict(Config.fromfile(root / SHARDED).to_dict())
    init_default_scope(cfg.default_scope)
    return cfg


@pytest.fixture(scope='module')
def network(demo):
    return MODELS.build(demo.model)


@pytest.fixture
def mesh(tmp_path):
    """A mesh of one process."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    yield init_device_mesh('cpu', (1,))
    torch.distributed.destroy_process_group()


def test_find_blocks_returns_outer_modules_first(network):
    names = [type(x).__name__ for x in find_blocks(network, None)]
    assert sorted(set(names)) == [
        *('BasicBlock', 'DFPQDecoderLayer', 'DeformableEncoderLayer')
    ]
    assert names.count('BasicBlock') == 8
    chosen = find_blocks(network, ['DeformableEncoder', 'Linear'])
    assert type(chosen[0]).__name__ == 'DeformableEncoder'


def test_unknown_block_raises(network):
    with pytest.raises(ValueError, match=r"no 'BasicBlok'.*'BasicBlock'"):
        find_blocks(network, ['BasicBlok'])


@pytest.fixture
def strategy(tmp_path):
    return FullyShardStrategy(work_dir=str(tmp_path))


def test_unsupported_settings_raise(strategy, tmp_path):
    network = nn.Linear(2, 2)
    with pytest.raises(ValueError, match='compile = False'):
        strategy.compile_model(network, compile=True)
    assert strategy.compile_model(network, compile=False) is network
    scaled = strategy.build_optim_wrapper(PLAIN, network)
    scaled.loss_scaler = SimpleNamespace(is_enabled=lambda: True)
    with pytest.raises(ValueError, match='--amp bf16'):
        strategy.build_optim_wrapper(scaled, network)
    scaled.loss_scaler = SimpleNamespace(is_enabled=lambda: False)
    assert strategy.build_optim_wrapper(scaled, network) is scaled
    several = dict(a=strategy.build_optim_wrapper(PLAIN, network))
    with pytest.raises(ValueError, match=r'one optimizer.*has 1'):
        strategy.build_optim_wrapper(several, network)


def test_model_wrapper_raises(tmp_path):
    wrapper = dict(type='MMDistributedDataParallel')
    with pytest.raises(ValueError, match='does not support model_wrapper'):
        FullyShardStrategy(work_dir=str(tmp_path), model_wrapper=wrapper)


def test_resume_without_optimizer_raises(strategy, tmp_path):
    strategy.model = nn.Linear(2, 2)
    path = tmp_path / 'weights.pth'
    torch.save(strategy.model.state_dict(), path)
    with pytest.raises(ValueError, match=r'no meta, optimizer\. Start from'):
        strategy.resume(str(path))
    strategy.model.weight.data.zero_()
    strategy.load_checkpoint(str(path))
    assert strategy.model.weight.abs().max() > 0


@pytest.mark.skipif(
    not hasattr(FSDPModule, 'set_reshard_after_forward'),
    reason='this PyTorch is too old',
)
def test_parameters_are_unsharded_in_evaluation(strategy, mesh, monkeypatch):
    """Also: a sharded model cannot be copied."""

    class BasicBlock(nn.Sequential):
        pass

    def is_full():
        return [not isinstance(x, DTensor) for x in network.parameters()]

    network = nn.Sequential(BasicBlock(nn.Linear(2, 2)), nn.Linear(2, 2))
    network = strategy._wrap_model(network)
    for _ in range(2):
        assert not any(is_full())
        network.eval()
        assert all(is_full())
        with torch.no_grad():
            network(torch.ones(1, 2))
        assert all(is_full())
        strategy.model = network
        strategy.model_state_dict()
        assert all(is_full())
        network.train()
        assert not any(is_full())
        network(torch.ones(1, 2)).sum().backward()
    with pytest.raises(ValueError, match='remove EMAHook'):
        deepcopy(network)
    monkeypatch.delattr(FSDPModule, 'set_reshard_after_forward')
    with pytest.raises(RuntimeError, match='newer PyTorch than'):
        strategy._wrap_model(nn.Linear(2, 2))


def test_optimizer_of_other_parameters_raises():
    network = nn.Linear(2, 2)
    one = torch.optim.SGD([network.weight], 0.1)
    both = torch.optim.SGD(network.parameters(), 0.1)
    with pytest.raises(ValueError, match='has 1 parameters, this one has 2'):
        shard_optimizer_state(one.state_dict(), both)


def test_single_process_is_not_sharded(demo, tmp_path):
    cfg = Config(demo.to_dict())
    cfg.merge_from_dict(dict(work_dir=str(tmp_path), launcher='none'))
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    quick = dict(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.update(batch_size=1, **quick)
    cfg.val_dataloader.update(quick)
    cfg.val_dataloader.dataset.length = 1
    runner = FlexibleRunner.from_cfg(cfg)
    runner.train()
    assert not any(isinstance(x, DTensor) for x in runner.model.parameters())
    assert (tmp_path / 'iter_2.pth').stat().st_size > 1e6


def test_gathered_state_equals_original(mesh):
    """Shards are gathered; other values are unchanged."""
    whole = torch.arange(6.0).view(3, 2)
    like = distribute_tensor(whole * 0, mesh, [Shard(0)])
    shard = shard_like(whole, like)
    assert isinstance(shard, DTensor) and shard.placements == like.placements
    state = {'a': shard, 'b': [whole, (1, 'x')], 'c': None}
    gathered = gather_full_state(state)
    assert torch.equal(gathered['a'], whole) and gathered['c'] is None
    assert gathered['b'][0] is whole and gathered['b'][1] == (1, 'x')
    assert shard_like(whole[:2], like).shape == (2, 2)
    assert not isinstance(shard_like(whole[:2], like), DTensor)
    assert shard_like(5, like) == 5
    assert shard_like(whole, whole * 0) is whole


def test_optimizer_loads_full_state(mesh):
    start = torch.arange(6.0).view(3, 2)

    def step(parameter, state=None):
        optimizer = torch.optim.AdamW([parameter], 0.1)
        if state is not None:
            state = shard_optimizer_state(deepcopy(state), optimizer)
            optimizer.load_state_dict(state)
        (parameter**2).sum().backward()
        optimizer.step()
        after = optimizer.state_dict(), parameter.detach()
        return deepcopy([gather_full_state(x) for x in after])

    plain = nn.Parameter(start.clone())
    state, weights = step(plain)
    expected_state, expected = step(nn.Parameter(weights.clone()), state)
    shard = nn.Parameter(distribute_tensor(weights, mesh, [Shard(0)]))
    again, weights = step(shard, state)
    assert torch.equal(weights, expected)
    for name, value in expected_state['state'][0].items():
        assert torch.equal(again['state'][0][name], value), name
