"""Distributed training on CPUs."""

import logging
import os
import time
from typing import Any

import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

GLOO_SHUTDOWN_SECONDS = 0.5  # seconds; a thread needs microseconds of them


def prepare_cpu_processes(cfg: Config) -> None:
    """Lets the processes of ``--launcher pytorch`` share CPUs.

    mmengine gives each process a GPU: it fails where there is none. Here the
    processes meet through gloo before mmengine would make them meet, and the
    wrapper of the model is told of no GPU. ``SyncBN``, which has no code for
    CPUs, becomes ``BN``: each process has statistics of its own. Nothing is
    done where there is a GPU, or for another launcher.

    Args:
        cfg (Config): of a runner; gets ``model_wrapper_cfg``.
    """
    if cfg.get('launcher') != 'pytorch' or get_device() != 'cpu':
        return
    if not dist.is_initialized():
        _init_process_group()
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    wrapper.setdefault('device_ids', None)
    cfg.model_wrapper_cfg = wrapper
    if _replace_sync_bn(cfg.get('model', {})):
        print_log(
            'SyncBN works on GPUs only: BN takes its place, and each process '
            'has statistics of its own',
            logger='current',
            level=logging.WARNING,
        )


def _init_process_group() -> None:
    """Initializes the process group, also after a restart by torchrun.

    The places of those before a restart are still written in its store.
    """
    store, rank, world_size = next(iter(rendezvous('env://')))
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    dist.init_process_group(
        'gloo',
        store=PrefixStore(f'attempt_{attempt}', store),
        rank=rank,
        world_size=world_size,
    )


def _replace_sync_bn(config: Any) -> bool:
    """Turns every SyncBN of a config into BN; returns whether there was."""
    found = False
    if isinstance(config, dict):
        if config.get('type') == 'SyncBN':
            config['type'], found = 'BN', True
        for value in config.values():
            found |= _replace_sync_bn(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            found |= _replace_sync_bn(value)
    return found


def destroy_process_group() -> None:
    """Destroys the process group, if there is one, before Python exits.

    A thread of gloo lets go of the tensors of the last exchange a little
    later than the exchange is over. If Python has ended meanwhile that aborts
    the process, and the launcher takes a finished training for a failed one.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        time.sleep(
            GLOO_SHUTDOWN_SECONDS
        )  # other threads have Python for so long
