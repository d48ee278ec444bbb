"""Conversion from and to checkpoints of the FASeg authors.

Shapes:
    K: number of classes.
"""

from collections.abc import Sequence

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
from .key_mapping import DECODER, FASEG_RULES, Rule, map_key
from .patch_merging import from_unfold_order, reorder, to_unfold_order

NO_OBJECT_WEIGHT = 0.1


def from_faseg(state: State, shapes: Shapes) -> Conversion:
    """Converts a checkpoint of the authors to mmfaseg.

    Args:
        state (Mapping[str, Tensor]): weights under the authors' names.
        shapes (Mapping[str, torch.Size]): entries of the mmfaseg model.

    Raises:
        ConversionError: if an entry is unexpected, missing or has another
            shape.
    """
    result = Conversion()
    for name, value in state.items():
        found = map_key(name, FASEG_RULES)
        if name == CLASS_WEIGHTS:
            result.drop(name, value, _describe_class_weights(value))
        elif name in NORMALIZATION:
            result.drop(name, value, 'set in data_preprocessor instead')
        elif found is None:
            result.unexpected_keys.append(name)
        else:
            target, rule = found
            converted, note = reorder(target, value, to_unfold_order)
            result.keep(name, target, rule, converted, value.shape, note)
    result.check(result.state, shapes, lambda name: name.startswith(AUXILIARY))
    return result


def to_faseg(
    state: State,
    shapes: Shapes,
    no_object_weight: float = NO_OBJECT_WEIGHT,
) -> Conversion:
    """Converts an mmfaseg checkpoint to the names of the authors.

    Args:
        state (Mapping[str, Tensor]): weights under the names of mmfaseg.
        shapes (Mapping[str, torch.Size]): entries of the mmfaseg model.
        no_object_weight (float): class weight of "no object" in the loss,
            stored as ``criterion.empty_weight`` in checkpoints of the authors.

    Raises:
        ConversionError: if an entry is unexpected, missing or has another
            shape.
    """
    return export(state, shapes, FASEG_RULES, no_object_weight)


def export(
    state: State,
    shapes: Shapes,
    rules: Sequence[Rule],
    no_object_weight: float,
) -> Conversion:
    """Converts an mmfaseg checkpoint to the names in ``rules``.

    Arguments and errors are those of :func:`to_faseg`.
    """
    result = Conversion()
    for name, value in state.items():
        found = map_key(name, rules, reverse=True)
        if name.startswith(AUXILIARY):
            result.drop(name, value, 'only for training the source model')
        elif found is None:
            result.unexpected_keys.append(name)
        else:
            target, rule = found
            converted, note = reorder(name, value, from_unfold_order)
            result.keep(name, target, rule, converted, value.shape, note)
    ours = {k: x for k, x in state.items() if not k.startswith(AUXILIARY)}
    result.check(ours, shapes, lambda name: name.startswith(AUXILIARY))
    weights = torch.ones(len(state[DECODER + 'predictor.class_embed.bias']))
    weights[-1] = no_object_weight  # (K + 1,)
    result.state[CLASS_WEIGHTS] = weights
    return result


def _describe_class_weights(weights: Tensor) -> str:
    value = float(weights[-1])
    if abs(value - NO_OBJECT_WEIGHT) < 1e-6:
        return 'created by the loss'
    return f'set model.decode_head.loss.no_object_weight={value:g}'
