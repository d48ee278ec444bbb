"""Converts checkpoints of the FASeg authors and of Mask2Former to mmfaseg.

--reverse converts an mmfaseg checkpoint to the format of the authors, or with
--format huggingface a Mask2Former to the format of Hugging Face. With
--config, an mmfaseg checkpoint initializes another model, for example with
other classes, or a detector from a semantic segmentation model.

The report lists how the entries were converted. The conversion fails if an
entry is unexpected, missing or has another shape. Code in checkpoints is not
executed.
"""

import argparse
import os
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from torch import Tensor, nn

import mmfaseg
from mmfaseg.checkpoints import (
    FASEG,
    FORMATS,
    HUGGING_FACE_MASK2FORMER,
    MASK2FORMER,
    MMFASEG,
    MMSEG_MASK2FORMER,
    NORMALIZATION,
    Conversion,
    ConversionError,
    check_target,
    describe_network,
    detect_format,
    find_weights,
    from_faseg,
    from_mask2former,
    from_mmfaseg,
    from_mmseg_keys,
    is_detector,
    make_table,
    read_class_names,
    read_state,
    to_detector_key,
    to_faseg,
    to_hugging_face,
    to_mmseg_key,
    to_segmentor_keys,
    write_state,
)
from mmfaseg.utils.command_line import exit_on_user_errors, hide_known_warnings
from mmfaseg.utils.config_classes import dataset_metainfo
from mmfaseg.utils.config_files import read_config
from mmfaseg.utils.package_folder import find_package_folder

CONFIGS = find_package_folder('configs') / 'faseg'
SAFE = '.safetensors'
HUGGING_FACE = 'huggingface'  # value of --format
MASK_THRESHOLD = 0.5  # of Mask2Former
LOG_WIDTH = 240  # of tables in log files
DATASETS_BY_CLASSES = {
    150: 'ade20k',
    19: 'cityscapes',
    171: 'coco-stuff164k',
    59: 'pascal-context-59',
    65: 'mapillary',
    11: 'camvid',
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'source',
        help='checkpoint of FASeg or Mask2Former: .pth, .pkl (detectron2), '
        '.safetensors or .bin, or a Hugging Face model folder',
    )
    parser.add_argument(
        'target',
        nargs='?',
        help='output file, .pth or .safetensors; optional with --dry-run',
    )
    parser.add_argument(
        '--config',
        help='config of the model (default: the config in configs/faseg for '
        'the backbone and the number of classes of the checkpoint)',
    )
    parser.add_argument(
        '--reverse',
        action='store_true',
        help='convert an mmfaseg checkpoint to the format of the authors',
    )
    parser.add_argument(
        '--format',
        choices=[FASEG, HUGGING_FACE],
        default=FASEG,
        help="with --reverse, the target: faseg (the authors' names) or "
        'huggingface (default: %(default)s)',
    )
    parser.add_argument(
        '--keep-classes',
        action='store_true',
        help='also copy the classifier between mmfaseg models that have the '
        'same classes in the same order',
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='do not write a file'
    )
    args = parser.parse_args(argv)
    if args.target is None and not args.dry_run:
        parser.error('specify a target, or --dry-run')
    if args.format == HUGGING_FACE:
        if not args.reverse:
            parser.error('--format is used with --reverse only')
        if args.config is None:
            parser.error('specify the --config of the Mask2Former model')
        if args.target is not None and Path(args.target).suffix != SAFE:
            parser.error(f'Hugging Face requires a target with suffix {SAFE}')
    return args


def find_config(backbone: str, num_classes: int) -> Path:
    """Returns the config for a backbone and a number of classes.

    Raises:
        ConversionError: if there is no such config.
    """
    dataset = DATASETS_BY_CLASSES.get(num_classes, 'none')
    if backbone in ('swin-b', 'swin-l'):  # with the pretraining of the authors
        backbone += '-in22k-384x384-pre'
    found = [
        path
        for path in sorted(CONFIGS.glob(f'faseg_{backbone}_*_{dataset}-*.py'))
        if '_slide-' not in path.stem
    ]
    if not found:
        raise ConversionError(
            f'configs/faseg has no config for {backbone} and {num_classes} '
            'classes: specify one with --config'
        )
    return found[0]


def build_model(cfg: Config) -> nn.Module:
    """Builds the model of a config without pretrained weights."""
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model)


def classes_of(cfg: Config) -> dict[str, list]:
    """Returns the ``dataset_meta`` of a config: classes and palette.

    Configs of a model only, and datasets without classes, have neither.
    """
    if 'train_dataloader' not in cfg:
        return {}
    meta = dataset_metainfo(cfg.train_dataloader.dataset, cfg.default_scope)
    # a palette of another length belongs to the classes of a base class
    return {
        key: [x if isinstance(x, str) else list(x) for x in meta[key]]
        for key in ('classes', 'palette')
        if meta.get(key) and len(meta[key]) == len(meta.get('classes') or ())
    }


def check_mask_threshold(model: nn.Module) -> None:
    """Checks the mask threshold, which Hugging Face does not store.

    Raises:
        ConversionError: if it differs from Mask2Former's.
    """
    for module in model.modules():
        threshold = getattr(module, 'mask_threshold', MASK_THRESHOLD)
        if threshold != MASK_THRESHOLD:
            raise ConversionError(
                f'the model has mask_threshold={threshold}; Mask2Former of '
                f'Hugging Face has {MASK_THRESHOLD}: fine-tune the model with '
                'transformer_decoder.masked_attention.mask_threshold='
                f'{MASK_THRESHOLD} first'
            )


def convert(
    state: dict[str, Tensor], cfg: Config, args: argparse.Namespace
) -> Conversion:
    """Converts a state dict for the model of a config.

    Raises:
        ConversionError: if an entry is unexpected, missing or has another
            shape.
    """
    model = build_model(cfg)
    entries = {name: x.shape for name, x in model.state_dict().items()}
    to_detector = is_detector(entries)
    same_task = to_detector == is_detector(state)
    state, shapes = to_segmentor_keys(state), to_segmentor_keys(entries)
    source = detect_format(state)
    to_hf = args.format == HUGGING_FACE  # which requires --reverse
    if to_detector and ((args.reverse and not to_hf) or source == FASEG):
        raise ConversionError(
            'the authors have no detector: convert their weights to a '
            'semantic segmentation model, then initialize the detector from it'
        )
    to_mmseg = FORMATS[MMSEG_MASK2FORMER] in shapes
    if to_mmseg:
        shapes = from_mmseg_keys(shapes)
    if args.reverse:
        head = model.panoptic_head if to_detector else model.decode_head
        # FASeg has the weights in its loss, Mask2Former in its head
        weights = getattr(head, 'loss_module', head).class_weight
        no_object = float(weights[-1])
        if source == MMSEG_MASK2FORMER:
            state = from_mmseg_keys(state)
        if to_hf:
            check_mask_threshold(model)
            return to_hugging_face(state, shapes, no_object)
        return to_faseg(state, shapes, no_object)
    if source == FASEG:
        return from_faseg(state, shapes)
    if source == MMFASEG:
        conversion = from_mmfaseg(
            state, shapes, args.keep_classes and same_task
        )
    else:
        # the keys of Hugging Face are the same for all tasks
        same_task = same_task or source == HUGGING_FACE_MASK2FORMER
        conversion = from_mask2former(state, shapes, source, same_task)
    if to_mmseg:
        conversion.rename(to_mmseg_key)
    if to_detector:
        conversion.rename(to_detector_key)
    return conversion


def compare_classes(names: list[str], dataset_meta: dict[str, list]) -> str:
    """Describes how the class names in config.json differ from a config's."""
    differing = [
        (x, y)
        for x, y in zip(names, dataset_meta.get('classes', ()), strict=False)
        if x != y
    ]
    if not differing:
        return 'classes: from config.json'
    return (
        f'classes: from config.json; {len(differing)} of {len(names)} have '
        f'another name in the config, such as {differing[0][0]!r} and '
        f'{differing[0][1]!r}. Use another config if the classes or their '
        'order differ'
    )


def describe_preprocessing(state: dict[str, Tensor], cfg: Config) -> str:
    """Describes the image normalization that a checkpoint requires.

    Checkpoints of old detectron2 versions contain the mean and standard
    deviation in the channel order of their images.
    """
    ours = cfg.model.data_preprocessor
    if not all(name in state for name in NORMALIZATION):
        return (
            f'images: RGB, mean {ours.mean}, std {ours.std}, as in the '
            'config; if the checkpoint was trained with another INPUT.FORMAT '
            'or MODEL.PIXEL_MEAN, change model.data_preprocessor'
        )
    mean, std = (
        [round(x, 3) for x in state[name].flatten().tolist()]
        for name in NORMALIZATION
    )
    if mean == ours.mean and std == ours.std:
        return 'images: as in the config'
    # the channel means of natural images decrease from red to blue
    order = 'RGB' if mean[0] > mean[2] else 'BGR'
    prefix = 'model.data_preprocessor.'
    options = [
        f'{prefix}mean="{mean}"',
        f'{prefix}std="{std}"',
        f'{prefix}bgr_to_rgb={order == "RGB"}',
    ]
    return (
        f'images: {order} by the mean in the checkpoint, which differs from '
        'the config; pass this to the tools:\n  --cfg-options '
        + ' '.join(options).replace(', ', ',')
    )


def run(args: argparse.Namespace, console: Console) -> None:
    """Converts a checkpoint and prints the report.

    Raises:
        ValueError: if the checkpoint cannot be read or does not match, or the
            target is invalid.
        OSError: if a file cannot be read or written.
    """
    weights = find_weights(args.source)
    if args.target is not None:
        check_target(Path(args.target), weights)
    state = read_state(weights)
    source = detect_format(to_segmentor_keys(state))
    names = None
    if source == HUGGING_FACE_MASK2FORMER:
        rows = len(state.get('class_predictor.bias', ()))
        names = read_class_names(weights, num_classes=rows - 1)
    to_hf = args.format == HUGGING_FACE
    ours = (MMFASEG, MMSEG_MASK2FORMER) if to_hf else (MMFASEG,)
    if args.reverse and source not in ours:
        raise ConversionError(
            f'{args.source} has the format {source}: convert it without '
            '--reverse'
        )
    if source == MMFASEG and not args.reverse and args.config is None:
        raise ConversionError(
            f'{args.source} has the format {source}: use --reverse, or '
            'specify the --config of the model to initialize'
        )
    config = args.config or find_config(
        *describe_network(to_segmentor_keys(state), source)
    )
    cfg = read_config(config)
    conversion = convert(state, cfg, args)
    console.print(make_table(conversion))
    where = os.path.relpath(cfg.filename)
    console.print(f'config: {where}', soft_wrap=True)
    if source in (FASEG, MASK2FORMER):
        console.print(describe_preprocessing(state, cfg), soft_wrap=True)
    dataset_meta = classes_of(cfg)
    if names and not any(
        'cls_embed' in x or 'class_embed' in x for x in conversion.missing_keys
    ):
        console.print(compare_classes(names, dataset_meta), soft_wrap=True)
        dataset_meta['classes'] = names
    if args.dry_run:
        console.print('dry run: no file was written')
        return
    meta = {
        'converted_from': source,
        'config': Path(where).name,
        'mmfaseg_version': mmfaseg.__version__,
        'dataset_meta': dataset_meta,
    }
    key = 'model' if args.reverse else 'state_dict'
    write_state(args.target, conversion.state, meta, key)
    console.print(f'wrote {args.target}', soft_wrap=True)
    if source == FASEG:
        command = f'mmfaseg test {where} {args.target}'
        console.print(f'evaluate: {command}', soft_wrap=True)
    elif not args.reverse:
        command = f'mmfaseg train {where} --cfg-options '
        command += f'load_from={args.target}'
        console.print(f'train: {command}', soft_wrap=True)


def main() -> None:
    """Converts, or exits with an error message."""
    hide_known_warnings()
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    with exit_on_user_errors():
        run(parse_args(), console)


if __name__ == '__main__':
    main()
