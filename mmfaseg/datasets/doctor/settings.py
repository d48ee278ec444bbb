"""What a config says twice has to be the same: checks without any file."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from ...utils.diagnostics import Diagnostics
from ...utils.type_name import type_name
from .split import LOAD_LABELS, Split


def check_settings(
    cfg: Config,
    splits: Mapping[str, Split],
    diagnostics: Diagnostics,
    check_colours: bool = True,
) -> None:
    """Compares model, data sets and preprocessor of a config.

    Args:
        cfg (Config): of a semantic segmentor.
        splits (Mapping[str, Split]): those that could be built, by name.
        diagnostics (Diagnostics): gets what is wrong.
        check_colours (bool): also report classes that share a colour.
    """
    for split in splits.values():
        _check_palette(split, diagnostics, check_colours)
        _check_zero_label(split, diagnostics)
        if split.skips and split.group != 'train':
            diagnostics.error(
                split.name,
                "a loading step has on_error='skip', which replaces the "
                'image by another one and is for training only',
                f"set on_error='raise' in {split.key}.pipeline",
            )
    _check_splits_agree(splits, diagnostics)
    if splits:
        first = next(iter(splits.values()))
        _check_heads(cfg.model, first, diagnostics)
        _check_preprocessor(cfg, first, diagnostics)


def _check_palette(
    split: Split, diagnostics: Diagnostics, check_colours: bool
) -> None:
    where = f'{split.name} palette'
    remedy = 'give metainfo.palette one colour (R, G, B), 0 to 255, per class'
    if not split.palette:
        return
    if len(split.palette) != len(split.classes):
        diagnostics.error(
            where,
            f'{len(split.palette)} colours for {len(split.classes)} classes',
            remedy,
        )
    colours = [tuple(x) for x in split.palette]
    bad = [x for x in colours if len(x) != 3 or not _is_colour(x)]
    if bad:
        diagnostics.error(where, f'{bad[0]} is no colour', remedy)
    if not check_colours:
        return
    names: dict[tuple, str] = {}
    for name, colour in zip(split.classes, colours, strict=False):
        if colour in names:
            diagnostics.warn(
                where,
                f'{names[colour]!r} and {name!r} have the colour {colour}',
                'images cannot show them apart: change one of the two',
            )
        names.setdefault(colour, name)


def _is_colour(colour: tuple) -> bool:
    return all(isinstance(x, int) and 0 <= x <= 255 for x in colour)


def _check_zero_label(split: Split, diagnostics: Diagnostics) -> None:
    """Mmseg asserts this at the first image, in a worker process."""
    for step in split.pipeline:
        told = None
        if isinstance(step, Mapping) and type_name(step) in LOAD_LABELS:
            told = step.get('reduce_zero_label')
        if told is not None and told != split.reduce_zero_label:
            diagnostics.error(
                split.name,
                f'reduce_zero_label is {split.reduce_zero_label} in the data '
                f'set and {told} in {type_name(step)}',
                f'set {split.key}.reduce_zero_label to what the labels need, '
                f'and take it out of {type_name(step)}',
            )


def _check_splits_agree(
    splits: Mapping[str, Split], diagnostics: Diagnostics
) -> None:
    if 'train' not in splits:
        return
    first = splits['train']
    for split in splits.values():
        if split.classes != first.classes:
            diagnostics.error(
                split.name,
                f'its classes are not those of train: {split.classes} and '
                f'{first.classes}',
                'give all splits the same metainfo',
            )
        if split.reduce_zero_label != first.reduce_zero_label:
            diagnostics.error(
                split.name,
                f'reduce_zero_label is {split.reduce_zero_label}, and '
                f'{first.reduce_zero_label} in train',
                f'set {split.key}.reduce_zero_label='
                f'{first.reduce_zero_label}, or that of train',
            )


def _check_heads(
    model: Mapping, split: Split, diagnostics: Diagnostics
) -> None:
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name)
        where = f'model.{name}'
        if isinstance(heads, Mapping):
            _check_head(where, heads, split, diagnostics)
        for number, head in enumerate(
            heads if isinstance(heads, (list, tuple)) else []
        ):
            _check_head(f'{where}.{number}', head, split, diagnostics)


def _check_head(
    where: str, head: Mapping, split: Split, diagnostics: Diagnostics
) -> None:
    count = len(split.classes)
    # an auxiliary head may look for something else, such as borders
    report = diagnostics.warn if 'auxiliary' in where else diagnostics.error
    told = head.get('num_classes')
    if told is not None and told != count:
        report(
            where,
            f'num_classes={told}, and the data have {count} classes',
            f'set {where}.num_classes={count}',
        )
    ignored = head.get('ignore_index', 255)
    if ignored != split.ignore_index:
        report(
            where,
            f'ignore_index={ignored}, and that of the data set is '
            f'{split.ignore_index}',
            f'set both to the label that says nothing: {where}.ignore_index '
            f'and {split.key}.ignore_index',
        )
    _check_weights(where, head, count, diagnostics)


def _check_weights(
    where: str, head: Mapping, count: int, diagnostics: Diagnostics
) -> None:
    """Checks the length of ``class_weight``.

    ``loss`` (mmfaseg) and ``loss_decode`` take one more weight for "no
    object"; ``loss_cls`` (Mask2Former) needs it.
    """
    for loss, lengths in (
        ('loss', (count, count + 1)),
        ('loss_decode', (count, count + 1)),
        ('loss_cls', (count + 1,)),
    ):
        several = head.get(loss)
        if isinstance(several, Mapping):
            several = [several]
        for each in several or []:
            weights: Any = each.get('class_weight')
            if isinstance(weights, (list, tuple)) and (
                len(weights) not in lengths
            ):
                more = ', and one for "no object"'
                diagnostics.error(
                    f'{where}.{loss}',
                    f'class_weight has {len(weights)} entries',
                    f'give it {lengths[0]}: one per class'
                    + (more if lengths[0] > count else ''),
                )


def _check_preprocessor(
    cfg: Config, split: Split, diagnostics: Diagnostics
) -> None:
    preprocessor = cfg.model.get('data_preprocessor') or {}
    padding = preprocessor.get('seg_pad_val', 255)
    # only a class is harmed: other numbers are of none
    if padding != split.ignore_index and padding < len(split.classes):
        diagnostics.error(
            'model.data_preprocessor',
            f'seg_pad_val={padding}, and the ignored label is '
            f'{split.ignore_index}: padding would count as class {padding}',
            f'set model.data_preprocessor.seg_pad_val={split.ignore_index}',
        )
