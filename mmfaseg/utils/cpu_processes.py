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

from .type_name import type_name

GLOO_SHUTDOWN_SECONDS = 0.5  # gloo's threads take only microseconds


def prepare_cpu_processes(cfg: Config) -> None:
    """Prepares a config for ``--launcher pytorch`` without GPUs.

    mmengine assigns a GPU to each process. This function instead initializes
    the process group with gloo and sets ``device_ids=None`` in the model
    wrapper. It replaces ``SyncBN``, which does not support CPUs, with ``BN``,
    which uses the statistics of a single process. With a GPU or another
    launcher, the config is not changed.
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
            'SyncBN does not support CPUs: replacing it with BN, which uses '
            'the statistics of a single process',
            logger='current',
            level=logging.WARNING,
        )


def _init_process_group() -> None:
    """Initializes the process group.

    Each restart by torchrun has its own prefix, as the store keeps old keys.
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
    """Replaces SyncBN with BN and returns whether any was found."""
    found = False
    if isinstance(config, dict):
        if type_name(config) in ('SyncBN', 'SyncBatchNorm'):
            config['type'], found = 'BN', True
        for value in config.values():
            found |= _replace_sync_bn(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            found |= _replace_sync_bn(value)
    return found


def destroy_process_group() -> None:
    """Destroys the process group, if there is one, before Python exits.

    Threads of gloo release the tensors of the last collective with a delay.
    If the interpreter is finalized before that, the process aborts and
    torchrun reports a failure.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        time.sleep(GLOO_SHUTDOWN_SECONDS)
