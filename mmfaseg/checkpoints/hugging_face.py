"""Conversion from and to Hugging Face Mask2Former checkpoints.

Shapes:
    C: channels of an attention layer.
    K: number of classes.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from .conversion import Conversion, ConversionError, Shapes, State
from .faseg import NO_OBJECT_WEIGHT, export
from .key_mapping import DECODER, HUGGING_FACE_RULES

CONFIG = 'config.json'
WEIGHTS = ('model.safetensors', 'pytorch_model.bin')
NUM_LEVELS = 3
MERGED = 'query_key_value'
# names of the three projections in the backbone and in the decoder
PROJECTIONS = (
    ('attention.self.', ('query', 'key', 'value')),
    ('self_attn.', ('q_proj', 'k_proj', 'v_proj')),
)
# Layers of the backbone whose output is not used: norms before pooling.
UNUSED = tuple(
    f'model.pixel_level_module.encoder.{x}layernorm.' for x in ('', 'swin.')
)


def find_weights(path: str | Path) -> Path:
    """Returns the weight file in a folder of ``save_pretrained()``.

    The path of a file is returned unchanged.

    Raises:
        FileNotFoundError: if the folder contains none of ``WEIGHTS``.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        return path
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(
        f'{path} contains none of {list(WEIGHTS)}: specify the checkpoint '
        'file. Weights in several files must be merged first, with '
        'save_pretrained(max_shard_size=...)'
    )


def read_class_names(weights: Path, num_classes: int) -> list[str] | None:
    """Returns the names of the classes in ``config.json``.

    Args:
        weights (Path): the file of the weights, in the same folder.
        num_classes (int): number of classes of its classifier, K.

    Returns:
        list[str] | None: K names, or None if there is no ``config.json`` or
        if it contains no names or only the default names ``LABEL_0``,
        ``LABEL_1``, ... transformers omits the defaults of two classes.

    Raises:
        ValueError: if ``config.json`` has no valid ``id2label`` of K classes.
    """
    path = weights.parent / CONFIG
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text('utf-8'))
        if 'id2label' not in config:
            return None
        labels = config['id2label']
        names = [str(labels[str(index)]) for index in range(len(labels))]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f'{path} has no id2label with the indices 0 to K - 1: correct or '
            'remove it'
        ) from error
    defaults = [f'LABEL_{index}' for index in range(len(names))]
    if names == defaults:
        return None
    if len(names) != num_classes:
        raise ValueError(
            f'{path} names {len(names)} classes, but the classifier has '
            f'{num_classes}: it belongs to another checkpoint'
        )
    return names


def merge_projections(state: State) -> dict[str, Tensor]:
    """Concatenates the projections of queries, keys and values.

    Args:
        state (Mapping[str, Tensor]): weights with shape (C, C) and biases
            with shape (C,) by the names of Hugging Face.

    Returns:
        dict[str, Tensor]: with shapes (3C, C) and (3C,) in place of each
        complete set of three.
    """
    merged = dict(state)
    for name in state:
        for module, parts in PROJECTIONS:
            first = f'{module}{parts[0]}.'
            names = [name.replace(first, f'{module}{x}.') for x in parts]
            if first not in name or not all(x in merged for x in names):
                continue
            values = [merged[x] for x in names]
            if len({x.shape for x in values}) == 1:
                target = name.replace(first, f'{module}{MERGED}.')
                merged[target] = torch.cat(values)
                for part in names:
                    del merged[part]
    return merged


def split_projections(state: State) -> dict[str, Tensor]:
    """Inverts :func:`merge_projections`."""
    result: dict[str, Tensor] = {}
    for name, value in state.items():
        for module, parts in PROJECTIONS:
            whole = f'{module}{MERGED}.'
            if whole in name:
                result |= {
                    name.replace(whole, f'{module}{x}.'): part
                    for x, part in zip(parts, value.chunk(3), strict=True)
                }
                break
        else:
            result[name] = value
    return result


def to_hugging_face(
    state: State,
    shapes: Shapes,
    no_object_weight: float = NO_OBJECT_WEIGHT,
) -> Conversion:
    """Converts Mask2Former to the names of Hugging Face.

    The arguments are those of :func:`to_faseg`, for a model that is configured
    as Mask2Former.

    Raises:
        ConversionError: if the model has parts that Mask2Former does not
            have, or if an entry is missing or has another shape.
    """
    levels = len(state.get(DECODER + 'level_embed.weight', ()))
    problem = ''
    if levels != NUM_LEVELS:
        problem = f'{levels} feature levels instead of {NUM_LEVELS}'
    elif DECODER + 'query_embed.weight' not in state:
        problem = 'no learned positional queries'
    if problem:
        raise ConversionError(
            f'the model has {problem}: only models that are configured as '
            'Mask2Former can be converted to Hugging Face'
        )
    result = export(state, shapes, HUGGING_FACE_RULES, no_object_weight)
    result.state = split_projections(result.state)
    return result
