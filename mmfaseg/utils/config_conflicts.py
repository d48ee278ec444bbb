"""Check for settings of a config that contradict each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from .diagnostics import Diagnostics
from .type_name import type_name

# backbones whose maps all have the same stride, and heads that need four
PLAIN_TRANSFORMERS = ('VisionTransformer', 'BEiT', 'MAE')
MULTI_SCALE_HEADS = ('FASegHead', 'FASegDetHead', 'Mask2FormerHead')
# settings of a schedule that does not end at 0
NONZERO_END = ('eta_min', 'eta_min_ratio', 'T_max')
LOADER_KEYS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def head_configs(model: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the head, or heads, of a model by their places in the config."""
    heads = model.get(name) or []
    if isinstance(heads, Mapping):
        return {f'model.{name}': heads}
    return {f'model.{name}.{i}': head for i, head in enumerate(heads)}


def check_conflicts(cfg: Config, diagnostics: Diagnostics) -> None:
    """Reports settings that end a run or that are ignored."""
    _check_strategy(cfg, diagnostics)
    _check_train_loop(cfg, diagnostics)
    _check_schedule(cfg, diagnostics)
    _check_plain_transformer(cfg, diagnostics)
    _check_auxiliary_heads(cfg, diagnostics)
    _check_workers(cfg, diagnostics)


def _check_workers(cfg: Config, diagnostics: Diagnostics) -> None:
    for key in LOADER_KEYS:
        loader = cfg.get(key)
        if not isinstance(loader, Mapping):
            continue
        if loader.get('persistent_workers') and not loader.get('num_workers'):
            diagnostics.error(
                key,
                'persistent_workers=True with num_workers=0',
                f'set {key}.persistent_workers=False or num_workers to at '
                'least 1',
            )


def _check_strategy(cfg: Config, diagnostics: Diagnostics) -> None:
    is_flexible = cfg.get('runner_type') == 'FlexibleRunner'
    if not is_flexible and cfg.get('strategy'):
        diagnostics.error(
            'strategy',
            'only FlexibleRunner uses this key',
            "set runner_type = 'FlexibleRunner', or remove it",
        )
    for key in ('sync_bn', 'model_wrapper_cfg'):
        if is_flexible and cfg.get(key):
            diagnostics.error(
                key,
                'FlexibleRunner ignores this key',
                'remove it, or move it into strategy',
            )
    strategy = type_name(cfg.get('strategy') or {'type': ''})
    hooks = [type_name(x) for x in cfg.get('custom_hooks') or ()]
    if strategy == 'FullyShardStrategy' and 'EMAHook' in hooks:
        diagnostics.error(
            'custom_hooks',
            'EMAHook cannot copy a sharded model',
            'remove the hook, or the strategy',
        )


def _check_train_loop(cfg: Config, diagnostics: Diagnostics) -> None:
    loop = cfg.get('train_cfg') or {}
    is_epoch_based = loop.get('by_epoch', False) or (
        loop.get('type') and type_name(loop) == 'EpochBasedTrainLoop'
    )
    if not is_epoch_based:
        return
    sampler = (cfg.get('train_dataloader') or {}).get('sampler')
    if sampler and type_name(sampler).startswith('Infinite'):
        diagnostics.error(
            'train_dataloader.sampler',
            f'with {type_name(sampler)}, the first epoch of '
            'EpochBasedTrainLoop never ends',
            "set train_dataloader.sampler.type='DefaultSampler', or use "
            'IterBasedTrainLoop',
        )
    hooks = [
        *(cfg.get('default_hooks') or {}).values(),
        *(cfg.get('custom_hooks') or ()),
    ]
    if 'ExactResumeHook' in [type_name(x) for x in hooks if x]:
        diagnostics.warn(
            'train_cfg',
            'ExactResumeHook does not make epoch-based training reproducible '
            'after resuming',
            'use IterBasedTrainLoop if the resumed run must be identical',
        )


def _check_schedule(cfg: Config, diagnostics: Diagnostics) -> None:
    """Reports schedules that reach the learning rate 0 too early."""
    max_iters = (cfg.get('train_cfg') or {}).get('max_iters')
    schedulers = cfg.get('param_scheduler') or ()
    if isinstance(schedulers, Mapping):
        schedulers = [schedulers]
    for number, scheduler in enumerate(schedulers):
        end = scheduler.get('end')
        if (
            type_name(scheduler) in ('PolyLR', 'CosineAnnealingLR')
            and not any(scheduler.get(x) for x in NONZERO_END)
            and not scheduler.get('by_epoch', True)
            and None not in (end, max_iters)
            and end < max_iters
        ):
            diagnostics.warn(
                f'param_scheduler.{number}',
                f'the learning rate is 0 from iteration {end} on, but '
                f'max_iters is {max_iters}',
                f'set param_scheduler.{number}.end={max_iters}',
            )


def _check_plain_transformer(cfg: Config, diagnostics: Diagnostics) -> None:
    model = cfg.get('model') or {}
    backbone = model.get('backbone') or {}
    head = model.get('decode_head') or model.get('panoptic_head') or {}
    if (
        type_name(backbone) in PLAIN_TRANSFORMERS
        and isinstance(head, Mapping)
        and type_name(head) in MULTI_SCALE_HEADS
        and not model.get('neck')
    ):
        channels = backbone.get('embed_dims', 'CHANNELS')
        diagnostics.error(
            'model.backbone',
            f'all maps of {type_name(backbone)} have the same stride, but '
            f'{type_name(head)} needs strides 4, 8, 16 and 32',
            "set model.neck=dict(type='mmseg.Feature2Pyramid', "
            f'embed_dim={channels}, rescales=[4, 2, 1, 0.5])',
        )


def _check_auxiliary_heads(cfg: Config, diagnostics: Diagnostics) -> None:
    """Compares the channels of auxiliary and decode head for each stage."""
    model = cfg.get('model') or {}
    decode_head = model.get('decode_head')
    if not isinstance(decode_head, Mapping) or 'in_index' in decode_head:
        return
    stages = decode_head.get('in_channels')
    if not isinstance(stages, Sequence):
        return
    for place, head in head_configs(model, 'auxiliary_head').items():
        if not isinstance(head, Mapping):
            continue
        index, channels = head.get('in_index', -1), head.get('in_channels')
        if (
            isinstance(index, int)
            and isinstance(channels, int)
            and -len(stages) <= index < len(stages)
            and stages[index] != channels
        ):
            diagnostics.error(
                f'{place}.in_channels',
                f'the head expects {channels} channels, but stage {index} of '
                f'the backbone has {stages[index]} according to '
                'decode_head.in_channels',
                f'set {place}.in_channels={stages[index]}, or '
                'model.auxiliary_head=None',
            )
