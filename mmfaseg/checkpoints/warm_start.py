"""Initialization from checkpoints of other models."""

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
from .hugging_face import UNUSED, merge_projections
from .key_mapping import (
    DECODER,
    HUGGING_FACE_MASK2FORMER,
    MMFASEG,
    MMSEG_MASK2FORMER,
    PIXEL_DECODER,
    RULES,
    map_key,
)
from .patch_merging import reorder, to_unfold_order

LEVEL_EMBED = DECODER + 'level_embed.weight'
CLASSIFIER = DECODER + 'predictor.class_embed.'
QUERY_EMBED = DECODER + 'query_embed.weight'
POSITIONAL_QUERY = DECODER + 'positional_query.'


def from_mmfaseg(
    state: State, shapes: Shapes, keep_classes: bool = False
) -> Conversion:
    """Initializes an mmfaseg model from another mmfaseg model.

    The target keeps its initialization for queries and classes of another
    number, for the auxiliary head and for parameters that only its positional
    queries have. All other entries must match.

    Args:
        state (Mapping[str, Tensor]): a checkpoint, with segmentor keys.
        shapes (Mapping[str, torch.Size]): entries of the target, with
            segmentor keys.
        keep_classes (bool): also copy the classifier, because both models
            have the same classes in the same order.

    Raises:
        ConversionError: if an entry is unexpected, missing or has another
            shape.
    """
    result = Conversion()
    dropped: set[str] = set()
    for name, value in state.items():
        reason = _count_mismatch(name, value, shapes)
        if name.startswith(CLASSIFIER) and not keep_classes:
            reason = 'the classes may differ'
        if name.startswith(AUXILIARY) and name not in shapes:
            reason = 'only for training the source model'
        if name.startswith(POSITIONAL_QUERY) and name not in shapes:
            reason = 'the model has other positional queries'
        if reason:
            result.drop(name, value, reason)
            dropped.add(name)
        else:
            result.keep(name, name, RULES[MMFASEG][0], value, value.shape)
    optional = (AUXILIARY, POSITIONAL_QUERY)
    result.check(
        result.state,
        shapes,
        lambda name: name in dropped or name.startswith(optional),
    )
    return result


def from_mask2former(
    state: State, shapes: Shapes, source: str, keep_classes: bool = True
) -> Conversion:
    """Initializes an mmfaseg model from Mask2Former.

    A decoder layer is copied to the layer of the same stride in the same
    cycle: layers 0, 1, 2, 3, ... to 0, 1, 2, 4, ..., or to 0, 1, 2, 3, ... if
    the target has no layers of stride 4. Layers of stride 4, the last layer,
    K_p and DFPQ keep their initialization, as do queries and classes of
    another number.

    Args:
        state (Mapping[str, Tensor]): names of detectron2, MMSegmentation or
            Hugging Face.
        shapes (Mapping[str, torch.Size]): entries of the target.
        source (str): ``MASK2FORMER`` (detectron2), ``MMSEG_MASK2FORMER`` or
            ``HUGGING_FACE_MASK2FORMER``.
        keep_classes (bool): copy the classifier if it has the same number of
            classes.

    Raises:
        ConversionError: if an entry is unexpected, if an entry of Mask2Former
            is missing, or if a shape differs in more than the number of
            queries or classes.
    """
    result = Conversion()
    levels = shapes[LEVEL_EMBED][0] if LEVEL_EMBED in shapes else 4
    dropped: set[str] = set()
    if source == HUGGING_FACE_MASK2FORMER:
        state = merge_projections(state)
    for name, value in state.items():
        if name.startswith(UNUSED) or name in (CLASS_WEIGHTS, *NORMALIZATION):
            result.drop(name, value, 'the network does not use it')
            continue
        if name.startswith(AUXILIARY):
            result.drop(name, value, 'only for training the source model')
            continue
        # name of query_feat in the first release of Mask2Former
        current = name.replace('static_query', 'query_feat')
        found = map_key(current, RULES[source])
        if found is None:
            result.unexpected_keys.append(name)
            continue
        target, rule = _map_layer_index(found[0], levels), found[1]
        if target == QUERY_EMBED and target not in shapes:
            result.drop(name, value, 'the model has no positional queries')
            continue
        reason = _count_mismatch(target, value, shapes)
        if target.startswith(CLASSIFIER) and not keep_classes:
            reason = 'the classes differ'
        if reason:
            result.drop(name, value, reason)
            dropped.add(target)
            continue
        converted, note = value, ''
        if target == LEVEL_EMBED and levels > len(value):
            converted = torch.cat([value, value[-1:]])
            note = 'stride 4 starts as a copy of stride 8'
        elif source != MMSEG_MASK2FORMER:  # it uses the order of Unfold
            converted, note = reorder(target, value, to_unfold_order)
        result.keep(name, target, rule, converted, value.shape, note)
    result.check(
        result.state,
        shapes,
        lambda name: name in dropped or _is_faseg_only(name, levels),
    )
    return result


# parameters without a counterpart in Mask2Former
_FASEG_ONLY = (
    rf'{re.escape(AUXILIARY)}'
    rf'|{re.escape(PIXEL_DECODER)}(input_projs\.3|positional_encodings)\.'
    rf'|{re.escape(POSITIONAL_QUERY)}'
)
_LAYERS_AFTER_NINE = rf'{re.escape(DECODER)}layers\.(9|\d\d)\.'
_FASEG_LAYERS = rf'{re.escape(DECODER)}layers\.(3|7|11|12)\.'
_LAYER_INDEX = rf'(?<={re.escape(DECODER)}layers\.)\d+'


def _is_faseg_only(name: str, levels: int) -> bool:
    """Returns whether Mask2Former has no counterpart of a weight."""
    if re.match(_FASEG_ONLY, name):
        return True
    # with three levels the layers correspond; Mask2Former has nine
    new_layers = _FASEG_LAYERS if levels > 3 else _LAYERS_AFTER_NINE
    return bool(re.match(new_layers, name))


def _map_layer_index(target: str, levels: int) -> str:
    """Maps the layer index of a decoder with three levels to ``levels``."""

    def replace(match: re.Match[str]) -> str:
        cycle, level = divmod(int(match[0]), 3)
        return str(levels * cycle + level)

    return re.sub(_LAYER_INDEX, replace, target)


def _count_mismatch(target: str, value: Tensor, shapes: Shapes) -> str:
    """Describes a mismatch in the number of queries or classes, if any."""
    free = rf'{re.escape(DECODER)}(predictor\.class_embed|query_\w+)\.\w+'
    if target not in shapes or not re.fullmatch(free, target):
        return ''
    if not value.dim() or value.size(0) == shapes[target][0]:
        return ''
    return f'{len(value)} rows, but the model has {shapes[target][0]}'
