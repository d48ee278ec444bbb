"""Several processes on a machine without GPUs."""

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device


def prepare_cpu_processes(cfg: Config) -> None:
    """Lets the processes of ``--launcher pytorch`` share CPUs.

    mmengine gives each process a GPU: it fails where there is none. Here the
    processes meet through gloo before mmengine would make them meet, and the
    wrapper of the model is told of no GPU. Nothing is done where there is one,
    or for another launcher.

    Args:
        cfg (Config): of a runner; gets ``model_wrapper_cfg``.
    """
    if cfg.get('launcher') != 'pytorch' or get_device() != 'cpu':
        return
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    wrapper.setdefault('device_ids', None)
    cfg.model_wrapper_cfg = wrapper
