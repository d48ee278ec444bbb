"""Detection of the architecture of a checkpoint."""

import re

from .conversion import ConversionError, State
from .key_mapping import DECODER, RULES, map_key

# width of the first stage and number of blocks of the third
RESNETS = {(64, 2): 'r18', (256, 6): 'r50', (256, 23): 'r101'}
SWINS = {
    (96, 6): 'swin-t',
    (96, 18): 'swin-s',
    (128, 18): 'swin-b',
    (192, 18): 'swin-l',
}


def describe_network(state: State, source: str) -> tuple[str, int]:
    """Returns the backbone, as in config names, and the number of classes.

    For example ``('swin-t', 150)``. ``source`` is the format of the
    checkpoint, see :func:`detect_format`.

    Raises:
        ConversionError: if the backbone is not in ``RESNETS`` or ``SWINS``.
    """
    shapes = {
        found[0]: value.shape
        for name, value in state.items()
        if (found := map_key(name, RULES[source]))
    }
    lateral = shapes.get('decode_head.pixel_decoder.lateral_conv.0.weight')
    classes = shapes.get(DECODER + 'predictor.class_embed.bias')
    if lateral is None or classes is None:
        raise ConversionError(
            'the checkpoint lacks the FPN layer or the classifier of the '
            'head; use a checkpoint of a complete segmentation model'
        )
    width = lateral[1]
    for stage, known in (('layer3', RESNETS), ('stages.2.blocks', SWINS)):
        pattern = re.compile(rf'backbone\.{re.escape(stage)}\.(\d+)\.')
        blocks = {x[1] for x in map(pattern.match, shapes) if x}
        if (width, len(blocks)) in known:
            return known[width, len(blocks)], classes[0] - 1
    raise ConversionError(
        f'unknown backbone with {width} channels at stride 4; known are '
        f'{[*RESNETS.values(), *SWINS.values()]}: specify the config of the '
        'checkpoint'
    )
