"""Warm starts of one of our models from another of ours."""

from .conversion import AUXILIARY, Conversion, Shapes, State
from .key_mapping import DECODER
from .mask2former import CLASSIFIER, count_mismatch

IDENTITY = ('*', '*')
POSITIONS = DECODER + 'positional_query.'


def from_mmfaseg(
    state: State, shapes: Shapes, keep_classes: bool = False
) -> Conversion:
    """Takes over what two of our models have in common.

    Queries stay as they were built where there is another number of them, and
    so do the auxiliary head and what only the target has in its positional
    queries. All else must fit.

    Args:
        state (Mapping[str, Tensor]): a checkpoint, under the names of a
            segmentor.
        shapes (Mapping[str, torch.Size]): the model's entries, likewise.
        keep_classes (bool): both models have the same classes in the same
            order: take the classifier, too.

    Raises:
        ConversionError: if an entry is unexpected, missing or has another
            shape.
    """
    result = Conversion()
    dropped: set[str] = set()
    for name, value in state.items():
        reason = count_mismatch(name, value, shapes)
        if name.startswith(CLASSIFIER) and not keep_classes:
            reason = 'the classes may be others'
        if name.startswith(AUXILIARY) and name not in shapes:
            reason = 'for training of the other model'
        if name.startswith(POSITIONS) and name not in shapes:
            reason = 'the model has other positional queries'
        if reason:
            result.drop(name, value, reason)
            dropped.add(name)
            continue
        result.keep(name, name, IDENTITY, value, value.shape)
    result.check(
        result.state,
        shapes,
        lambda name: (
            name in dropped or name.startswith((AUXILIARY, POSITIONS))
        ),
    )
    return result
