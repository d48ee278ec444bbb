"""Checks of a config that read no images."""

from collections import Counter
from collections.abc import Mapping

from mmengine.config import Config

from ..utils.config_conflicts import head_configs
from ..utils.diagnostics import Diagnostics
from ..utils.type_name import LOAD_LABELS, type_name
from .split import Split

DEFAULT_IGNORED = 255


def check_settings(
    cfg: Config,
    splits: Mapping[str, Split],
    diagnostics: Diagnostics,
    check_colors: bool = True,
) -> None:
    """Reports contradictions between model, datasets and preprocessor.

    With ``check_colors``, also reports classes that share a color.
    """
    for split in splits.values():
        _check_class_names(split, diagnostics)
        _check_palette(split, diagnostics, check_colors)
        _check_zero_label(split, diagnostics)
        _check_many_classes(split, diagnostics)
        if split.skips and split.group != 'train':
            diagnostics.error(
                split.name,
                "a loading step has on_error='skip', which replaces the "
                'image by another one and is for training only',
                f"set on_error='raise' in {split.key}.pipeline",
            )
    in_training = [x for x in splits.values() if x.group == 'train']
    for split in splits.values():
        if in_training and split.group != 'train':
            _compare_with_train(split, in_training[0], diagnostics)
    if splits:
        first = next(iter(splits.values()))
        for name in ('decode_head', 'auxiliary_head'):
            for where, head in head_configs(cfg.model, name).items():
                _check_head(where, head, first, diagnostics)
        _check_preprocessor(cfg, first, diagnostics)


def _check_class_names(split: Split, diagnostics: Diagnostics) -> None:
    repeated = [x for x, n in Counter(split.classes).items() if n > 1]
    if repeated:
        diagnostics.error(
            f'{split.name} classes',
            f'the names {repeated} occur more than once',
            'give each class its own name in metainfo.classes',
        )


def _check_palette(
    split: Split, diagnostics: Diagnostics, check_colors: bool
) -> None:
    where = f'{split.name} palette'
    remedy = 'give metainfo.palette one color (R, G, B), 0 to 255, per class'
    if not split.palette:
        return
    if len(split.palette) != len(split.classes):
        diagnostics.error(
            where,
            f'{len(split.palette)} colors for {len(split.classes)} classes',
            remedy,
        )
    colors = [tuple(x) for x in split.palette]
    for color in colors:
        if len(color) != 3 or not all(x in range(256) for x in color):
            diagnostics.error(where, f'{color} is not a color', remedy)
            break
    if not check_colors:
        return
    names: dict[tuple, str] = {}
    for name, color in zip(split.classes, colors, strict=False):
        if color in names:
            diagnostics.warn(
                where,
                f'{names[color]!r} and {name!r} have the color {color}',
                'change one of the two to tell them apart in images',
            )
        names.setdefault(color, name)


def _check_zero_label(split: Split, diagnostics: Diagnostics) -> None:
    """Compares ``reduce_zero_label`` of dataset and loading step.

    Otherwise mmseg's assertion fails at the first image, in a worker process.
    """
    step = split.step(LOAD_LABELS) or {}
    in_step = step.get('reduce_zero_label')
    if in_step not in (None, split.reduce_zero_label):
        kind = type_name(step)
        diagnostics.error(
            split.name,
            f'reduce_zero_label is {split.reduce_zero_label} in the dataset '
            f'and {in_step} in {kind}',
            f'set {split.key}.reduce_zero_label to the value for these '
            f'labels, and remove it from {kind}',
        )


def _check_many_classes(split: Split, diagnostics: Diagnostics) -> None:
    """Reports settings that do not work with class 255."""
    if len(split.classes) <= DEFAULT_IGNORED:
        return
    if split.ignore_index == DEFAULT_IGNORED:
        diagnostics.error(
            split.name,
            f'ignore_index=255 is also one of the {len(split.classes)} '
            'classes',
            f'set {split.key}.ignore_index, the ignore_index of heads and '
            'metrics, and data_preprocessor.seg_pad_val to 65535',
        )
    step = split.step(LOAD_LABELS)
    if step is not None and type_name(step) == 'LoadAnnotations':
        diagnostics.error(
            split.name,
            f'{len(split.classes)} classes, but LoadAnnotations takes labels '
            'modulo 256',
            f"use dict(type='mmfaseg.LoadCheckedAnnotations') in {split.key}"
            '.pipeline',
        )


def _compare_with_train(
    split: Split, train: Split, diagnostics: Diagnostics
) -> None:
    if split.classes != train.classes:
        diagnostics.error(
            split.name,
            f'the classes differ from those of train: {split.classes} and '
            f'{train.classes}',
            'give all splits the same metainfo',
        )
    if split.reduce_zero_label != train.reduce_zero_label:
        diagnostics.error(
            split.name,
            f'reduce_zero_label is {split.reduce_zero_label}, but '
            f'{train.reduce_zero_label} in train',
            f'set {split.key}.reduce_zero_label={train.reduce_zero_label}, or '
            'change that of train',
        )


def _check_head(
    where: str, head: Mapping, split: Split, diagnostics: Diagnostics
) -> None:
    count = len(split.classes)
    # other auxiliary heads may predict something else, such as boundaries
    may_differ = 'auxiliary' in where and type_name(head) != 'FCNHead'
    report = diagnostics.warn if may_differ else diagnostics.error
    num_classes = head.get('num_classes', count)
    if num_classes != count:
        report(
            where,
            f'num_classes={num_classes}, but the data have {count} classes',
            f'set {where}.num_classes={count}',
        )
    ignored = head.get('ignore_index', 255)
    if ignored != split.ignore_index:
        report(
            where,
            f'ignore_index={ignored}, but that of the dataset is '
            f'{split.ignore_index}',
            f'set {where}.ignore_index and {split.key}.ignore_index to the '
            'label of unlabeled pixels',
        )
    # "loss" (mmfaseg) takes one more weight for "no object", "loss_cls"
    # (Mask2Former) requires it.
    for name, lengths in (
        ('loss', (count, count + 1)),
        ('loss_decode', (count, head.get('out_channels', count))),
        ('loss_cls', (count + 1,)),
    ):
        losses = head.get(name) or []
        for loss in [losses] if isinstance(losses, Mapping) else losses:
            weights = loss.get('class_weight')
            if not isinstance(weights, (list, tuple)):
                continue
            if len(weights) not in lengths:
                extra = ', plus one for "no object"' * (name == 'loss_cls')
                diagnostics.error(
                    f'{where}.{name}',
                    f'class_weight has {len(weights)} entries',
                    f'give it {lengths[0]}: one per class{extra}',
                )


def _check_preprocessor(
    cfg: Config, split: Split, diagnostics: Diagnostics
) -> None:
    preprocessor = cfg.model.get('data_preprocessor') or {}
    crop = (split.step(['RandomCrop']) or {}).get('crop_size')
    if isinstance(crop, int):
        crop = (crop, crop)
    size = preprocessor.get('size')
    if crop and size and (size[0] < crop[0] or size[1] < crop[1]):
        diagnostics.warn(
            'model.data_preprocessor',
            f'size={tuple(size)} is smaller than the crop_size={tuple(crop)} '
            'of RandomCrop: a batch with a smaller image would fail',
            f'set model.data_preprocessor.size={tuple(crop)}',
        )
    padding = preprocessor.get('seg_pad_val', 255)
    # padding with an unused label is harmless
    if padding != split.ignore_index and padding < len(split.classes):
        diagnostics.error(
            'model.data_preprocessor',
            f'seg_pad_val={padding}, but the ignored label is '
            f'{split.ignore_index}: padding would count as class {padding}',
            f'set model.data_preprocessor.seg_pad_val={split.ignore_index}',
        )
