"""Converts checkpoints of FASeg's authors and of Mask2Former, and back.

With --config, one of ours becomes the start of another model of ours: other
classes, or a detector of instances from a semantic model.

Names, shapes and the order of merged patches are adapted, every entry is
accounted for, and nothing in a checkpoint is run. An entry that is unknown,
missing or misshapen stops the conversion.
"""

import argparse
import os
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from rich.console import Console
from torch import Tensor

import mmfaseg
from mmfaseg.checkpoints import (
    NORMALIZATION,
    Conversion,
    ConversionError,
    check_target,
    describe_network,
    detect_format,
    from_faseg,
    from_mask2former,
    from_mmfaseg,
    is_detector,
    make_table,
    read_state,
    rename_to_detector,
    to_faseg,
    to_segmentor_keys,
    write_state,
)
from mmfaseg.utils.command_line import hide_known_warnings

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'faseg'
LOG_WIDTH = 240  # of a table that goes into a file
DATA = {
    150: 'ade20k',
    19: 'cityscapes',
    171: 'coco-stuff164k',
    59: 'pascal-context-59',
    65: 'mapillary',
    11: 'camvid',
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'source',
        help='checkpoint of FASeg or Mask2Former (detectron2: .pth, .pkl; '
        'MMSegmentation, MMDetection: .pth), or .safetensors',
    )
    parser.add_argument(
        'target',
        nargs='?',
        help='where to write, .pth or .safetensors; not needed to --dry-run',
    )
    parser.add_argument(
        '--config',
        help='config of the model; by default the one in configs/faseg with '
        'the backbone and the number of classes of the checkpoint',
    )
    parser.add_argument(
        '--reverse',
        action='store_true',
        help="from our names to those of the authors' program",
    )
    parser.add_argument(
        '--no-object-weight',
        type=float,
        help='weight of the class "no object", which the authors keep in '
        'their checkpoints; for --reverse (default: that of the config)',
    )
    parser.add_argument(
        '--keep-classes',
        action='store_true',
        help='one of ours starts another with the same classes in the same '
        'order: take the classifier, too',
    )
    parser.add_argument(
        '--keys', action='store_true', help='a row for every entry'
    )
    parser.add_argument('--dry-run', action='store_true', help='write nothing')
    args = parser.parse_args(argv)
    if args.target is None and not args.dry_run:
        parser.error('a target is needed, or --dry-run')
    return args


def find_config(backbone: str, num_classes: int) -> Path:
    """Return the experiment with this backbone on the data set of a size.

    Raises:
        ConversionError: if there is none.
    """
    dataset = DATA.get(num_classes, 'none')
    if backbone in ('swin-b', 'swin-l'):  # as the authors pretrained them
        backbone += '-in22k-384x384-pre'
    found = [
        path
        for path in sorted(CONFIGS.glob(f'faseg_{backbone}_*_{dataset}-*.py'))
        if '_slide-' not in path.stem
    ]
    if not found:
        raise ConversionError(
            f'configs/faseg has none for {backbone} and {num_classes} '
            'classes: name one with --config'
        )
    return found[0]


def entries_of(cfg: Config) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the model of a config."""
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    return {name: x.shape for name, x in model.state_dict().items()}


def classes_of(cfg: Config) -> dict[str, list]:
    """Return names and colours of the classes, as mmseg's checkpoints do."""
    dataset = cfg.train_dataloader.dataset
    with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
        meta = registry.get(dataset.type).METAINFO | dataset.get(
            'metainfo', {}
        )
    # a palette of another number is that of the parent's classes
    return {
        key: [x if isinstance(x, str) else list(x) for x in meta[key]]
        for key in ('classes', 'palette')
        if len(meta.get(key, ())) == len(meta.get('classes', ()))
    }


def convert(
    state: dict[str, Tensor],
    cfg: Config,
    reverse: bool = False,
    no_object: float | None = None,
    keep_classes: bool = False,
) -> Conversion:
    """Return the checkpoint under its new names.

    Raises:
        ConversionError: if an entry is unexpected, missing or has another
            shape.
    """
    entries = entries_of(cfg)
    to_detector = is_detector(entries)
    same_task = to_detector == is_detector(state)
    state, shapes = to_segmentor_keys(state), to_segmentor_keys(entries)
    source = detect_format(state)
    if to_detector and (reverse or source == 'faseg'):
        raise ConversionError(
            'the authors have no detector: convert their weights to a '
            'semantic model, and start the detector from that'
        )
    if reverse:
        if no_object is None:
            no_object = cfg.model.decode_head.loss.no_object_weight
        return to_faseg(state, shapes, no_object)
    if source == 'faseg':
        return from_faseg(state, shapes)
    if source == 'mmfaseg':
        conversion = from_mmfaseg(state, shapes, keep_classes and same_task)
    else:
        conversion = from_mask2former(state, shapes, source, same_task)
    if to_detector:
        rename_to_detector(conversion)
    return conversion


def describe_preprocessing(state: dict[str, Tensor], cfg: Config) -> str:
    """Return how images must be given to the network.

    Checkpoints of old detectron2 hold mean and deviation, in the order of
    their images; others were trained as the config says.
    """
    ours = cfg.model.data_preprocessor
    if not all(name in state for name in NORMALIZATION):
        return (
            f'images: RGB, mean {ours.mean}, deviation {ours.std}, as in '
            'the config; if INPUT.FORMAT and MODEL.PIXEL_MEAN of its program '
            'say otherwise, set model.data_preprocessor to that'
        )
    mean, std = (
        [round(x, 3) for x in state[name].flatten().tolist()]
        for name in NORMALIZATION
    )
    if mean == ours.mean and std == ours.std:
        return 'images: as in the config'
    # the mean of natural images falls from red to blue
    order = 'RGB' if mean[0] > mean[2] else 'BGR'
    prefix = 'model.data_preprocessor.'
    options = [
        f'{prefix}mean="{mean}"',
        f'{prefix}std="{std}"',
        f'{prefix}bgr_to_rgb={order == "RGB"}',
    ]
    return (
        f'images: {order} by the mean in the checkpoint, other than in the '
        'config; give this to the tools:\n  --cfg-options '
        + ' '.join(options).replace(', ', ',')
    )


def run(args: argparse.Namespace, console: Console) -> None:
    """Convert as the command line says.

    Raises:
        ValueError: if the checkpoint cannot be read or does not fit, or the
            target cannot be written.
        OSError: if the disk fails.
    """
    if args.target is not None:
        check_target(Path(args.target), Path(args.source))
    state = read_state(args.source)
    source = detect_format(to_segmentor_keys(state))
    if args.reverse and source != 'mmfaseg':
        raise ConversionError(
            f'{args.source} is a checkpoint of {source}: convert it without '
            '--reverse'
        )
    if source == 'mmfaseg' and not args.reverse and args.config is None:
        raise ConversionError(
            f'{args.source} is a checkpoint of mmfaseg: convert it with '
            '--reverse, or name the --config of the model that it is to start'
        )
    config = args.config or find_config(
        *describe_network(to_segmentor_keys(state), source)
    )
    cfg = Config.fromfile(config)
    conversion = convert(
        state, cfg, args.reverse, args.no_object_weight, args.keep_classes
    )
    console.print(make_table(conversion, args.keys))
    where = os.path.relpath(config)
    console.print(f'config: {where}', soft_wrap=True)
    if source in ('faseg', 'mask2former'):
        console.print(describe_preprocessing(state, cfg), soft_wrap=True)
    if args.dry_run:
        console.print('nothing was written (--dry-run)')
        return
    meta = {
        'converted_from': source,
        'config': Path(config).name,
        'mmfaseg_version': mmfaseg.__version__,
        'dataset_meta': classes_of(cfg),
    }
    key = 'model' if args.reverse else 'state_dict'
    write_state(args.target, conversion.state, meta, key)
    console.print(f'written: {args.target}', soft_wrap=True)
    if source == 'faseg':
        command = f'python tools/test.py {where} {args.target}'
        console.print(f'evaluate it: {command}', soft_wrap=True)
    elif not args.reverse:
        command = f'python tools/train.py {where} --cfg-options '
        command += f'load_from={args.target}'
        console.print(f'train from it: {command}', soft_wrap=True)


def main() -> None:
    """Convert, or say in one sentence why not."""
    hide_known_warnings()
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)
    try:
        run(parse_args(), console)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
