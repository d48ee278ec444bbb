"""Warm starts from checkpoints of Mask2Former."""

import re

import torch
from torch import Tensor

from .conversion import (
    AUXILIARY,
    CLASS_WEIGHTS,
    NORMALIZATION,
    Conversion,
    Shapes,
    State,
)
from .names import DECODER, PIXEL_DECODER, RULES, translate
from .patch_merging import reorder, to_unfold_order

LEVEL_EMBED = DECODER + 'level_embed.weight'
CLASSIFIER = DECODER + 'predictor.class_embed.'
QUERY_EMBED = DECODER + 'query_embed.weight'


def from_mask2former(
    state: State, shapes: Shapes, source: str, keep_classes: bool = True
) -> Conversion:
    """Takes over what Mask2Former has in common with our model.

    A block goes to the one of the same stride in the same round: 0, 1, 2, 3,
    ... to 0, 1, 2, 4, ..., or to 0, 1, 2, 3, ... where our model has no
    blocks of stride 4. Those blocks, the last one, K_p and DFPQ stay as they
    were built, and so do queries and classes where there is another number of
    them.

    Args:
        state (Mapping[str, Tensor]): names of detectron2 or MMSegmentation.
        shapes (Mapping[str, torch.Size]): our model's entries.
        source (str): ``'mask2former'`` (detectron2) or
            ``'mmseg-mask2former'``.
        keep_classes (bool): take the classifier where it has the same number
            of classes.

    Raises:
        ConversionError: if an entry is unknown, if one is missing that
            Mask2Former has, or misshapen although its shape does not depend
            on the number of queries or classes.
    """
    result = Conversion()
    levels = shapes[LEVEL_EMBED][0] if LEVEL_EMBED in shapes else 4
    dropped: set[str] = set()
    for name, value in state.items():
        if name in (CLASS_WEIGHTS, *NORMALIZATION):
            result.drop(name, value, 'not a weight of the network')
            continue
        if name.startswith(AUXILIARY):
            result.drop(name, value, 'for training of the other model')
            continue
        # what query_feat was called in the first release of Mask2Former
        current = name.replace('static_query', 'query_feat')
        found = translate(current, RULES[source])
        if found is None:
            result.unknown.append(name)
            continue
        target, rule = _same_block(found[0], levels), found[1]
        if target == QUERY_EMBED and target not in shapes:
            result.drop(name, value, 'the model has no positional queries')
            continue
        reason = other_number(target, value, shapes)
        if target.startswith(CLASSIFIER) and not keep_classes:
            reason = 'the classes are others'
        if reason:
            result.drop(name, value, reason)
            dropped.add(target)
            continue
        converted, note = value, ''
        if target == LEVEL_EMBED and levels > len(value):
            converted = torch.cat([value, value[-1:]])
            note = 'stride 4 begins as a copy of stride 8'
        elif source == 'mask2former':  # mmseg's are in our order already
            converted, note = reorder(target, value, to_unfold_order)
        result.keep(name, target, rule, converted, value.shape, note)
    result.check(
        result.state,
        shapes,
        lambda name: name in dropped or _is_ours_alone(name, levels),
    )
    return result


# what Mask2Former has no counterpart of, by our names
_OURS_ALONE = (
    rf'{re.escape(AUXILIARY)}'
    rf'|{re.escape(PIXEL_DECODER)}(input_projs\.3|positional_encodings)\.'
    rf'|{re.escape(DECODER)}positional_query\.'
)
_BLOCKS_AFTER_NINE = rf'{re.escape(DECODER)}layers\.(9|\d\d)\.'
_BLOCKS_ALONE = rf'{re.escape(DECODER)}layers\.(3|7|11|12)\.'
_BLOCK = rf'(?<={re.escape(DECODER)}layers\.)\d+'


def _is_ours_alone(name: str, levels: int) -> bool:
    """Returns whether a weight of our model may stay as it was built."""
    if re.match(_OURS_ALONE, name):
        return True
    # with three levels all blocks are alike; Mask2Former has nine
    alone = _BLOCKS_ALONE if levels > 3 else _BLOCKS_AFTER_NINE
    return bool(re.match(alone, name))


def _same_block(target: str, levels: int) -> str:
    """Returns a name with our block for one of a decoder of three levels."""

    def same(match: re.Match[str]) -> str:
        cycle, level = divmod(int(match[0]), 3)
        return str(levels * cycle + level)

    return re.sub(_BLOCK, same, target)


def other_number(target: str, value: Tensor, shapes: Shapes) -> str:
    """Returns why a tensor cannot be used whose first size users choose."""
    free = rf'{re.escape(DECODER)}(predictor\.class_embed|query_\w+)\.\w+'
    if target not in shapes or not re.fullmatch(free, target):
        return ''
    if not value.dim() or value.size(0) == shapes[target][0]:
        return ''
    return f'{len(value)} rows, and the model has {shapes[target][0]}'
