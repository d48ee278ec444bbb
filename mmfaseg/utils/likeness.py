"""Which name is meant by a misspelt one."""

import difflib
from collections.abc import Sequence

# how much alike two names are, from 0 to 1, where one is the other misspelt
ARGUMENT, CLASS, KEY = 0.75, 0.85, 0.87


def similar(
    name: str, known: Sequence[str], likeness: float = ARGUMENT
) -> str:
    """Returns the known name that is most like one, '' if none is.

    Args:
        name (str): as somebody wrote it.
        known (Sequence[str]): names that there are.
        likeness (float): at least so much alike, from 0 to 1.
    """
    found = difflib.get_close_matches(str(name), known, 1, likeness)
    return found[0] if found else ''
