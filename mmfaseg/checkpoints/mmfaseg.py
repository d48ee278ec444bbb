"""Warm starts of one of our models from another of ours."""

from .conversion import AUXILIARY, Conversion, Shapes, State
from .mask2former import other_number
from .names import DECODER

IDENTITY = ('*', '*')
POSITIONS = DECODER + 'positional_query.'


def from_mmfaseg(state: State, shapes: Shapes) -> Conversion:
    """Takes over what two of our models have in common.

    Queries and classes stay as they were built where there is another number
    of them, and so do the auxiliary head and what only the target has in its
    positional queries. All else must fit.

    Args:
        state (Mapping[str, Tensor]): a checkpoint, under the names of a
            segmentor.
        shapes (Mapping[str, torch.Size]): the model's entries, likewise.

    Raises:
        ConversionError: if an entry is unknown, missing or misshapen.
    """
    result = Conversion()
    dropped: set[str] = set()
    for name, value in state.items():
        reason = other_number(name, value, shapes)
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
