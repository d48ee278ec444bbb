"""Loading of trained networks by config name, path or work dir."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from ..checkpoints.compatibility import load_weights
from ..checkpoints.latest import find_latest_checkpoint
from ..utils.config_classes import dataset_metainfo
from ..utils.config_files import find_config, read_config
from ..utils.package_folder import PACKAGE
from .image_loader import find_test_dataset

WEIGHTS = PACKAGE / 'weights'


def find_model(
    model: str | Path, weights: str | Path | None = None
) -> tuple[Path, Path]:
    """Returns the config and the checkpoint of a trained network.

    Args:
        model (str | Path): Config file, work dir with a config and a
            checkpoint, or name of a config of this package. The name may
            omit schedule and crop: ``faseg_efficientnet-lite0_dsb2018``.
        weights (str | Path, optional): Checkpoint; by default the best
            checkpoint in the work dir, or the latest if there is none. For a
            name, the weights in this package.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If ``weights`` is missing, a name is ambiguous, or a work
            dir holds several configs or several published weights.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return _config_in(path), _existing(weights or _checkpoint_in(path))
    config = find_config(model)
    published = WEIGHTS / f'{config.stem}.safetensors'
    is_name = path.suffix != '.py'
    if weights is None and is_name and published.is_file():
        weights = published
    if weights is None:
        raise ValueError(
            f'{config.name} is a config without weights; also pass a '
            'checkpoint as weights'
        )
    return config, _existing(weights)


def load_model(
    model: str | Path,
    weights: str | Path | None = None,
    device: str = 'cpu',
    cfg_options: dict[str, Any] | None = None,
) -> Any:
    """Returns a trained segmentor in evaluation mode.

    Args:
        model (str | Path): See :func:`find_model`.
        weights (str | Path, optional): See :func:`find_model`.
        device (str): For example ``'cuda:0'``.
        cfg_options (dict, optional): Settings that override the config.

    Returns:
        nn.Module: With ``cfg``, and with the names and colors of the classes
        in ``dataset_meta``.

    Raises:
        ValueError: If the config does not define a semantic segmentor, the
            checkpoint is damaged or does not match the config, an option does
            not fit the config, or the device is not available.
        ImportError: If a custom import of the config fails.
    """
    config, checkpoint = find_model(model, weights)
    cfg = read_config(config, cfg_options)
    if 'module' in cfg.get('model', {}):  # written by tools/test.py --tta
        cfg.model = cfg.model.module
    if 'decode_head' not in cfg.get('model', {}):
        raise ValueError(
            f'{config.name} has no model.decode_head; use '
            'mmdet.apis.DetInferencer for detectors'
        )
    network, meta = load_network(cfg, checkpoint, device)
    network.cfg = cfg
    network.dataset_meta = _dataset_meta(
        cfg, network, meta.get('dataset_meta') or {}
    )
    return network


def load_network(
    cfg: Config, checkpoint: str | Path, device: str
) -> tuple[Any, dict[str, Any]]:
    """Builds the model of a config and loads its weights.

    Args:
        cfg (Config): Config of a segmentor or detector.
        checkpoint (str | Path): File of the weights.
        device (str): For example ``'cuda:0'``.

    Returns:
        tuple[nn.Module, dict]: The model in evaluation mode, and the ``meta``
        entry of the checkpoint.

    Raises:
        ValueError: If the checkpoint is damaged or does not match the config,
            or the device is not available.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {device!r} is not available to PyTorch; use 'cpu'"
        ) from error
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    network = MODELS.build(cfg.model)
    content = load_weights(network, checkpoint)
    if device == 'cpu':
        network = revert_sync_batchnorm(network)
    return network.to(device).eval(), content.get('meta', {})


def _existing(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {path}')
    return path


def _config_in(folder: Path) -> Path:
    found = sorted(folder.glob('*.py'))
    if len(found) != 1:
        names = ', '.join(x.name for x in found) or 'none'
        raise ValueError(
            f'{folder} must hold exactly one config, found {names}; pass the '
            'config and the weights separately'
        )
    return found[0]


def _checkpoint_in(folder: Path) -> Path:
    best = sorted(folder.glob('best_*.pth'), key=lambda x: x.stat().st_mtime)
    if best:
        return best[-1]
    if found := find_latest_checkpoint(folder):
        return Path(found)
    published = list(folder.glob('*.safetensors'))
    if len(published) > 1:
        raise ValueError(
            f'{folder} has {len(published)} files *.safetensors: pass one as '
            'weights'
        )
    if published:
        return published[0]
    raise FileNotFoundError(
        f'{folder} has no checkpoint: best_*.pth, iter_*.pth, epoch_*.pth or '
        '*.safetensors'
    )


def _dataset_meta(cfg: Config, network: Any, meta: dict) -> dict[str, Any]:
    """Returns names and colors of the classes.

    The names come from the checkpoint if their number matches the model,
    otherwise from the config. Without either, the names are numbers.
    """
    from ..visualization import make_palette

    count = network.decode_head.num_classes
    if len(meta.get('classes') or ()) != count:
        scope = cfg.get('default_scope', 'mmseg')
        meta = dataset_metainfo(find_test_dataset(cfg), scope)
    if len(meta.get('classes') or ()) != count:
        meta = dict(classes=[f'class {n}' for n in range(count)])
    palette = meta.get('palette')
    if palette is None or len(palette) != count:
        palette = make_palette(count)
    return dict(
        classes=list(meta['classes']), palette=[list(x) for x in palette]
    )
