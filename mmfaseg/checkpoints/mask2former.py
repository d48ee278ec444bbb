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
from .key_mapping import DECODER, PIXEL_DECODER, RULES, map_key
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
        ConversionError: if an entry is unexpected, if one is missing that
            Mask2Former has, or has another shape that does not depend
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
        found = map_key(current, RULES[source])
        if found is None:
            result.unexpected_keys.append(name)
            continue
        target, rule = _map_layer_index(found[0], levels), found[1]
        if target == QUERY_EMBED and target not in shapes:
            result.drop(name, value, 'the model has no positional queries')
            continue
        reason = count_mismatch(target, value, shapes)
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
        lambda name: name in dropped or _is_faseg_only(name, levels),
    )
    return result


# parameters of ours without a counterpart in Mask2Former
_FASEG_ONLY = (
    rf'{re.escape(AUXILIARY)}'
    rf'|{re.escape(PIXEL_DECODER)}(input_projs\.3|positional_encodings)\.'
    rf'|{re.escape(DECODER)}positional_query\.'
)
_LAYERS_AFTER_NINE = rf'{re.escape(DECODER)}layers\.(9|\d\d)\.'
_FASEG_LAYERS = rf'{re.escape(DECODER)}layers\.(3|7|11|12)\.'
_LAYER_INDEX = rf'(?<={re.escape(DECODER)}layers\.)\d+'


def _is_faseg_only(name: str, levels: int) -> bool:
    """Returns whether only our model has a weight."""
    if re.match(_FASEG_ONLY, name):
        return True
    # with three levels all layers are alike; Mask2Former has nine
    alone = _FASEG_LAYERS if levels > 3 else _LAYERS_AFTER_NINE
    return bool(re.match(alone, name))


def _map_layer_index(target: str, levels: int) -> str:
    """Maps the layer index of a decoder of three levels to ours."""

    def same(match: re.Match[str]) -> str:
        cycle, level = divmod(int(match[0]), 3)
        return str(levels * cycle + level)

    return re.sub(_LAYER_INDEX, same, target)


def count_mismatch(target: str, value: Tensor, shapes: Shapes) -> str:
    """Describes a mismatch in the number of queries or classes, if any."""
    free = rf'{re.escape(DECODER)}(predictor\.class_embed|query_\w+)\.\w+'
    if target not in shapes or not re.fullmatch(free, target):
        return ''
    if not value.dim() or value.size(0) == shapes[target][0]:
        return ''
    return f'{len(value)} rows, and the model has {shapes[target][0]}'
