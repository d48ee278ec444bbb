import pytest
from mmengine.config import Config

from mmfaseg.utils import cpu_processes
from mmfaseg.utils.cpu_processes import prepare_cpu_processes


@pytest.fixture
def started(monkeypatch):
    """Records calls that initialize the process group, without a GPU."""
    backends = []
    monkeypatch.setattr(cpu_processes, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(
        cpu_processes, '_init_process_group', lambda: backends.append(1)
    )
    return backends


def test_gloo_process_group_without_device_ids(started):
    cfg = Config(dict(launcher='pytorch', find_unused_parameters=True))
    prepare_cpu_processes(cfg)
    assert started == [1]
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=True,
        device_ids=None,
    )


def test_model_wrapper_of_config_is_kept(started):
    wrapper = dict(type='MMSeparateDistributedDataParallel')
    cfg = Config(dict(launcher='pytorch', model_wrapper_cfg=wrapper))
    prepare_cpu_processes(cfg)
    assert cfg.model_wrapper_cfg == dict(wrapper, device_ids=None)


@pytest.mark.parametrize('launcher', ['none', 'slurm', 'mpi'])
def test_other_launchers_are_unchanged(started, launcher):
    cfg = Config(dict(launcher=launcher))
    prepare_cpu_processes(cfg)
    assert started == [] and 'model_wrapper_cfg' not in cfg


def test_gpu_machines_are_unchanged(started, monkeypatch):
    monkeypatch.setattr(cpu_processes, 'get_device', lambda: 'cuda')
    cfg = Config(dict(launcher='pytorch'))
    prepare_cpu_processes(cfg)
    assert started == [] and 'model_wrapper_cfg' not in cfg


def test_sync_bn_becomes_bn(started):
    norm = dict(type='SyncBN', requires_grad=True)
    model = dict(backbone=dict(norm_cfg=dict(norm)), heads=[dict(a=norm)])
    cfg = Config(dict(launcher='pytorch', model=model))
    prepare_cpu_processes(cfg)
    assert cfg.model.backbone.norm_cfg == dict(norm, type='BN')
    assert cfg.model.heads[0].a.type == 'BN'
