"""A trained network by the name of its config, a path or a folder."""

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS
from mmengine.runner import load_checkpoint

from ..checkpoints.compatibility import check_compatible
from ..checkpoints.latest import find_latest_checkpoint

PACKAGE = Path(__file__).resolve().parents[1]
# of a checkout, and of an installed wheel
CONFIGS = (PACKAGE.parent / 'configs', PACKAGE / '.mim' / 'configs')


def find_model(
    model: str | Path, weights: str | Path | None = None
) -> tuple[Path, Path]:
    """Returns the files of a trained network, config and checkpoint.

    Args:
        model (str | Path): a config file; the name of one of ours, without
            folder and ``.py``; or a work dir, which holds both.
        weights (str | Path, optional): a checkpoint. From a work dir, by
            default the best one, else the latest.

    Raises:
        FileNotFoundError: if there is no such config or checkpoint.
        ValueError: if no weights are given where they are needed, or a
            folder holds several configs.
    """
    path = Path(model)
    if path.is_dir():
        return _config_in(path), _existing(weights or _checkpoint_in(path))
    if path.suffix == '.py':
        config = _existing(path)
    else:
        found = [
            group / f'{model}.py'
            for folder in CONFIGS
            if folder.is_dir()
            for group in folder.iterdir()
            if (group / f'{model}.py').is_file()
        ]
        if not found:
            raise FileNotFoundError(
                f'{model!s} is no config file, no work dir and no name of a '
                'config: `mim search mmfaseg` lists the names'
            )
        config = found[0]
    if weights is None:
        raise ValueError(
            f'{config.name} says what the network is; give weights, the file '
            'of a checkpoint, too'
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
        model (str | Path): see :func:`find_model`.
        weights (str | Path, optional): likewise.
        device (str): such as ``'cuda:0'``.
        cfg_options (dict, optional): settings that replace those of the
            config.

    Returns:
        nn.Module: with ``cfg``, and names and colours of the classes in
        ``dataset_meta``.

    Raises:
        ValueError: if the config is of no semantic segmentor, or if the
            checkpoint is damaged or not of this config.
    """
    from mmseg.apis import init_model

    config, checkpoint = find_model(model, weights)
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(cfg_options or {})
    if 'module' in cfg.get('model', {}):  # left by a test with augmentation
        cfg.model = cfg.model.module
    if 'decode_head' not in cfg.get('model', {}):
        raise ValueError(
            f'{config.name} has no model.decode_head; for detectors take '
            'mmdet.apis.DetInferencer'
        )
    network = init_model(cfg, None, device)
    content = load_checkpoint(network, str(checkpoint), map_location='cpu')
    check_compatible(content.get('state_dict', content), network, checkpoint)
    known = content.get('meta', {}).get('dataset_meta') or {}
    network.dataset_meta = _classes_of(cfg, network, known)
    if device == 'cpu':
        network = revert_sync_batchnorm(network)
    return network.eval()


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {path}')
    return path


def _config_in(folder: Path) -> Path:
    found = sorted(folder.glob('*.py'))
    if len(found) != 1:
        names = ', '.join(x.name for x in found) or 'none'
        raise ValueError(
            f'{folder} must hold one config, and holds {names}: give the '
            'config and the weights by themselves'
        )
    return found[0]


def _checkpoint_in(folder: Path) -> Path:
    best = sorted(folder.glob('best_*.pth'), key=lambda x: x.stat().st_mtime)
    if best:
        return best[-1]
    latest = find_latest_checkpoint(folder)
    if latest is not None:
        return Path(latest)
    for path in folder.glob('*.safetensors'):
        return path
    raise FileNotFoundError(
        f'{folder} has no checkpoint: best_*.pth, iter_*.pth, epoch_*.pth or '
        '*.safetensors'
    )


def _classes_of(cfg: Config, network: Any, known: dict) -> dict[str, Any]:
    """Returns names and colours of the classes.

    Those of the checkpoint, if it names as many as the network has, else
    those of the config, else numbers.
    """
    from ..visualization import make_palette

    count = network.decode_head.num_classes
    if len(known.get('classes') or ()) != count:
        known = _classes_of_config(cfg)
    if len(known.get('classes') or ()) != count:
        known = dict(classes=[f'class {n}' for n in range(count)])
    palette = known.get('palette')
    if palette is None or len(palette) != count:
        palette = make_palette(count)
    return dict(
        classes=list(known['classes']), palette=[list(x) for x in palette]
    )


def _classes_of_config(cfg: Config) -> dict[str, Any]:
    settings = cfg.get('test_dataloader', {}).get('dataset', {})
    if not isinstance(settings.get('type'), str):
        return dict(settings.get('metainfo', {}))
    scope = cfg.get('default_scope', 'mmseg')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        default = getattr(registry.get(settings.type), 'METAINFO', {})
    return {**default, **settings.get('metainfo', {})}
