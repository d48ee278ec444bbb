"""Application of training and testing options to a config."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from torch import nn

from mmfaseg.checkpoints import find_latest_checkpoint, read_checkpoint

from .config_classes import unwrap_datasets
from .type_name import LOAD_LABELS, type_name

AMP_DEVICES = ('cuda', 'npu', 'mlu', 'musa')  # as in AmpOptimWrapper
AMP_DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16)
LOGGERS = {'tensorboard': 'TensorboardVisBackend', 'wandb': 'WandbVisBackend'}


def add_logger(cfg: Config, name: str) -> None:
    """Adds a backend of :data:`LOGGERS` to the visualizer of a config."""
    visualizer = cfg.get('visualizer') or dict(type='Visualizer')
    backends = visualizer.get('vis_backends') or [dict(type='LocalVisBackend')]
    if LOGGERS[name] not in map(type_name, backends):
        backends = [*backends, dict(type=LOGGERS[name])]
    cfg.visualizer = dict(visualizer, vis_backends=backends)


def train_with_amp(cfg: Config, precision: str) -> None:
    """Switches a training config to mixed precision, fp16 or bf16.

    Raises:
        ValueError: if mixed precision is not supported on this device or
            with this optimizer wrapper.
    """
    _check_amp_device(precision)
    wrapper = type_name({'type': 'OptimWrapper', **cfg.optim_wrapper})
    if wrapper not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(
            f'--amp replaces OptimWrapper, but the config has {wrapper!r}; '
            'omit --amp and set optim_wrapper in the config'
        )
    if precision == 'bf16':
        for key in ('dtype', 'loss_scale', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)
        cfg.optim_wrapper.type = 'mmfaseg.Bfloat16OptimWrapper'
    else:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.dtype = 'float16'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def _check_amp_device(precision: str) -> None:
    """Raises ValueError, or warns, if this device is unsuitable."""
    device = get_device()
    devices = AMP_DEVICES if precision == 'fp16' else (*AMP_DEVICES, 'cpu')
    if device not in devices:
        has_bf16 = device == 'cpu' and has_bfloat16_instructions()
        remedy = 'use --amp bf16, ' if has_bf16 else ''
        raise ValueError(
            f'--amp {precision} is supported on {", ".join(devices)}, but '
            f'this process runs on {device!r}; {remedy}omit --amp, or use a '
            'machine with a supported device'
        )
    if device == 'cpu' and not has_bfloat16_instructions():
        print_log(
            '--amp bf16: this processor has no bfloat16 instructions, and '
            'emulating them is slower than float32; omit --amp',
            logger='current',
            level=logging.WARNING,
        )


def has_bfloat16_instructions() -> bool:
    """Returns whether oneDNN computes in bfloat16 on this processor."""
    mkldnn = torch.backends.mkldnn
    return mkldnn.is_available() and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def predict_with_amp(model: nn.Module, precision: str) -> None:
    """Makes a model predict in mixed precision.

    mmengine's test loop supports only float16.
    """
    autocast = torch.autocast(get_device(), AMP_DTYPES[precision])
    model.test_step = autocast(model.test_step)


def resume_from(cfg: Config, checkpoint: str) -> None:
    """Sets a config to resume from a checkpoint or the latest, ``'auto'``.

    Raises:
        ValueError: if there is no such file, or if its schedules end at
            another iteration than those of the config.
    """
    if checkpoint == 'auto':
        latest = find_latest_checkpoint(cfg.work_dir)
        if latest is None:
            print_log(
                f'--resume: no checkpoint in {cfg.work_dir}, starting from '
                'the beginning',
                logger='current',
            )
            return
        checkpoint = latest
    elif '://' not in checkpoint and not Path(checkpoint).is_file():
        raise ValueError(
            f'--resume: there is no file {checkpoint}; to resume from the '
            'latest checkpoint of a work directory, use --work-dir DIR '
            '--resume'
        )
    # Otherwise, mmengine would resume from pretrained weights in load_from.
    cfg.load_from = checkpoint
    cfg.resume = True
    if not Path(checkpoint).is_file():  # remote
        return
    content = read_checkpoint(checkpoint, use_mmap=True)
    _check_schedule(cfg, content, checkpoint)
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:
        # mmengine reads the seed only after building the dataloaders
        seed = content.get('meta', {}).get('seed')
        cfg.randomness = dict(randomness, seed=seed)


def _check_schedule(
    cfg: Config, content: dict[str, Any], checkpoint: str
) -> None:
    """Raises ValueError if schedules end at another iteration than saved.

    mmengine restores the saved schedules and ignores those of the config.
    """
    schedulers = cfg.get('param_scheduler')
    saved = content.get('param_schedulers')
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    if isinstance(schedulers, list) and isinstance(saved, list):
        for now, before in zip(schedulers, saved, strict=False):
            end = now.get('end')
            saved_end = before.get('end', end)
            if end is None or now.get('by_epoch', True) or end == saved_end:
                continue
            raise ValueError(
                f'--resume: a schedule of the config ends at iteration {end}, '
                f'that of {checkpoint} at {saved_end}, which mmengine '
                'restores. Use the settings of the interrupted run, including '
                'its --cfg-options. To train for another length, start a new '
                f'run with --cfg-options load_from={checkpoint}'
            )
    max_iters = (cfg.get('train_cfg') or {}).get('max_iters')
    done = content.get('meta', {}).get('iter', 0)
    if max_iters is not None and done >= max_iters:
        print_log(
            f'--resume: {checkpoint} has {done} iterations, and max_iters is '
            f'{max_iters}: the training is complete',
            logger='current',
            level=logging.WARNING,
        )


def draw_predictions(
    cfg: Config, show: bool, show_dir: str | None, wait_time: float
) -> None:
    """Makes the visualization hook of a config draw every image.

    Raises:
        ValueError: if the config has no such hook, or no visualizer.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise ValueError(
            '--show and --show-dir require default_hooks.visualization in the '
            "config, for example dict(type='mmfaseg.DrawSegmentationHook')"
        )
    hook.update(draw=True, interval=1)
    if show:
        hook.update(show=True, wait_time=wait_time)
    if show_dir is not None:
        visualizer = cfg.get('visualizer')
        if visualizer is None:
            raise ValueError(
                '--show-dir requires a visualizer in the config, for example '
                "dict(type='SegLocalVisualizer')"
            )
        visualizer['save_dir'] = show_dir


def use_test_time_augmentation(cfg: Config) -> None:
    """Switches a config to its ``tta_model`` and ``tta_pipeline``.

    Raises:
        ValueError: if one of them is missing.
    """
    keys = ('tta_model', 'tta_pipeline')
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise ValueError(f'--tta needs {" and ".join(missing)} in the config')
    for dataset in _test_datasets(cfg):
        dataset['pipeline'] = cfg.tta_pipeline
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def save_predictions(cfg: Config, directory: str) -> None:
    """Makes a test save the predictions.

    Semantic segmentors save label maps, detectors COCO results.

    Raises:
        ValueError: if the config of a detector has no metric.
    """
    if cfg.get('default_scope') != 'mmdet':
        hook = dict(type='mmfaseg.SavePredictionsHook', out_dir=directory)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
        return
    metrics = _test_metrics(cfg)
    if not metrics:
        raise ValueError(
            '--out needs a metric in test_evaluator, such as CocoMetric, '
            'which writes the predictions'
        )
    for index, metric in enumerate(metrics):
        name = 'results' if len(metrics) == 1 else f'results_{index}'
        metric['outfile_prefix'] = str(Path(directory) / name)


def _test_datasets(cfg: Config) -> list[Any]:
    """Returns the settings of the test dataset, or of those it wraps."""
    key = 'test_dataloader.dataset'
    return [x for _, x in unwrap_datasets(cfg.test_dataloader.dataset, key)]


def _test_metrics(cfg: Config) -> list[dict]:
    """Returns the configs of the metrics of the test."""
    evaluator = cfg.test_evaluator
    return [evaluator] if isinstance(evaluator, dict) else list(evaluator)


def skip_labels(cfg: Config) -> None:
    """Makes a test predict images without labels, and without metrics.

    The metrics of a detector still write the predictions; see
    :func:`save_predictions`.
    """
    for dataset in _test_datasets(cfg):
        dataset['pipeline'] = _without_labels(dataset.get('pipeline', []))
    if cfg.get('default_scope') == 'mmdet':
        for metric in _test_metrics(cfg):
            metric['format_only'] = True
    else:
        cfg.test_evaluator = []


def _without_labels(pipeline: Sequence[dict]) -> list[dict]:
    """Returns a pipeline, also of ``TestTimeAug``, that loads no labels."""
    load_labels = (*LOAD_LABELS, 'LoadPanopticAnnotations')
    steps = []
    for step in pipeline:
        if type_name(step) == 'TestTimeAug':
            groups = [_without_labels(group) for group in step['transforms']]
            step = dict(step, transforms=[group for group in groups if group])
        if type_name(step) not in load_labels:
            steps.append(step)
    return steps


def check_loaded_weights(cfg: Config) -> None:
    """Makes a test of our models reject checkpoints that lack weights.

    mmengine only warns about them. Replaces mmengine's ``CheckpointHook``,
    which has no other effect in a test. Other models are not checked, as they
    may rename weights when they load them.
    """
    model = cfg.get('model') or {}
    head = model.get('decode_head') or model.get('panoptic_head') or {}
    if type_name(head) not in ('FASegHead', 'FASegDetHead'):
        return
    hooks = cfg.get('default_hooks') or {}
    hook = hooks.get('checkpoint') or dict(type='CheckpointHook')
    if type_name(hook) == 'CheckpointHook':
        hook = dict(hook, type='mmfaseg.SafeCheckpointHook')
        cfg.default_hooks = dict(hooks, checkpoint=hook)


def remove_sharding(cfg: Config) -> None:
    """Removes ``FullyShardStrategy``, which supports only training."""
    strategy = cfg.get('strategy')
    if strategy and type_name(strategy) == 'FullyShardStrategy':
        cfg.pop('strategy')
        cfg.pop('runner_type', None)
