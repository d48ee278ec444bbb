"""Config keys that the runner silently ignores."""

import inspect

from mmengine.config import Config
from mmengine.runner import FlexibleRunner, Runner

from .diagnostics import Diagnostics
from .suggestions import KEY_CUTOFF, closest_match


def check_keys(cfg: Config, diagnostics: Diagnostics) -> None:
    """Checks for keys that no runner reads.

    Args:
        cfg (Config): of any task.
        diagnostics (Diagnostics): collects the errors.
    """
    runner = _check_runner(cfg, diagnostics)
    known = [*inspect.signature(runner).parameters, 'runner_type']
    known.remove('cfg')
    for key in cfg:
        suggestion = closest_match(key, known, KEY_CUTOFF)
        is_variant = key[-1:].isdigit()  # such as train_dataloader_2
        if suggestion and key not in known and not is_variant:
            diagnostics.error(
                key,
                'mmengine ignores this key',
                f'did you mean {suggestion}? If it is a variable of your own, '
                'rename it',
            )


def _check_runner(cfg: Config, diagnostics: Diagnostics) -> type:
    """Returns the runner class; reports keys that it ignores."""
    is_flexible = cfg.get('runner_type') == 'FlexibleRunner'
    if not is_flexible and cfg.get('strategy'):
        diagnostics.error(
            'strategy',
            'only the FlexibleRunner looks at it',
            "set runner_type = 'FlexibleRunner', or take it out",
        )
    for key in ('sync_bn', 'model_wrapper_cfg'):
        if is_flexible and cfg.get(key):
            diagnostics.error(
                key,
                'the FlexibleRunner does not look at it',
                'take it out, or give it to the strategy',
            )
    kind = str((cfg.get('strategy') or {}).get('type'))
    hooks = [str(x.get('type')) for x in cfg.get('custom_hooks') or ()]
    if kind.endswith('FullyShardStrategy') and 'EMAHook' in hooks:
        diagnostics.error(
            'custom_hooks',
            'EMAHook copies the network, which cannot be done in shards',
            'take it out, or the strategy',
        )
    return FlexibleRunner if is_flexible else Runner
