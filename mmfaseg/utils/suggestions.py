"""Suggestions for misspelled names."""

import difflib
from collections.abc import Sequence

# similarity from which one name is taken for a misspelling of another
ARGUMENT_CUTOFF, CLASS_CUTOFF, KEY_CUTOFF = 0.75, 0.85, 0.87


def closest_match(
    name: str, known: Sequence[str], cutoff: float = ARGUMENT_CUTOFF
) -> str:
    """Returns the known name that is most similar to a name, '' if none is.

    Args:
        name (str): the name as written.
        known (Sequence[str]): valid names.
        cutoff (float): minimum similarity, from 0 to 1.
    """
    matches = difflib.get_close_matches(str(name), known, 1, cutoff)
    return matches[0] if matches else ''
