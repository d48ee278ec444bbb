"""Keys of a config that the runner does not look at, without a word."""

import inspect

from mmengine.config import Config
from mmengine.runner import FlexibleRunner, Runner

from .finding import Findings
from .likeness import KEY, similar


def check_keys(cfg: Config, findings: Findings) -> None:
    """Looks for keys that no runner reads, and what is meant by them.

    Args:
        cfg (Config): of any task.
        findings (Findings): gets what is wrong.
    """
    runner = _check_runner(cfg, findings)
    known = [*inspect.signature(runner).parameters, 'runner_type']
    known.remove('cfg')
    for key in cfg:
        meant = similar(key, known, KEY)
        is_variant = key[-1:].isdigit()  # such as train_dataloader_2
        if meant and key not in known and not is_variant:
            findings.error(
                key,
                'mmengine ignores this key',
                f'did you mean {meant}? If it is a variable of yours, call '
                'it something else',
            )


def _check_runner(cfg: Config, findings: Findings) -> type:
    """Returns the runner; tells of what it does not look at."""
    is_flexible = cfg.get('runner_type') == 'FlexibleRunner'
    if not is_flexible and cfg.get('strategy'):
        findings.error(
            'strategy',
            'only the FlexibleRunner looks at it',
            "set runner_type = 'FlexibleRunner', or take it out",
        )
    for key in ('sync_bn', 'model_wrapper_cfg'):
        if is_flexible and cfg.get(key):
            findings.error(
                key,
                'the FlexibleRunner does not look at it',
                'take it out, or give it to the strategy',
            )
    kind = str((cfg.get('strategy') or {}).get('type'))
    hooks = [str(x.get('type')) for x in cfg.get('custom_hooks') or ()]
    if kind.endswith('FullyShardStrategy') and 'EMAHook' in hooks:
        findings.error(
            'custom_hooks',
            'EMAHook copies the network, which cannot be done in shards',
            'take it out, or the strategy',
        )
    return FlexibleRunner if is_flexible else Runner
