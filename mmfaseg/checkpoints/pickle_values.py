"""What is known of the things in a pickle that nobody has made."""

import re
from dataclasses import dataclass, field
from typing import Any

FUNCTION, TUPLE, PLAIN, CONTAINER, OBJECT = range(5)
ENTRY = 64  # bytes of an entry of a container
MAX_NUMBER = 2**48  # that is a key
MAX_KEY = 100  # entries of a tuple that is a key, with all tuples in it
STORAGE = 'storage'  # stands for the function that makes one


class UntrustedError(ValueError):
    """A file is damaged, or made to do harm."""


@dataclass(slots=True)
class Value:
    """What is known of something on the stack of a pickle.

    Attributes:
        kind: which of the five above.
        name: a function's, or that of the function that made an object.
        value: a string, number or None, where it is short.
        items: of a tuple.
        size: entries of a tuple with all tuples in it.
        depth: of tuples in it.
        first: entry of a container or tuple.
        weight: about the bytes that a call with it as an argument takes.
        all_keys: of a container: whether all that is in it can be a key.
        all_pairs: whether all that is in it are pairs of a key and a value.
        has_state: of an object: whether it was given one.
    """

    kind: int = PLAIN
    name: str = ''
    value: Any = None
    items: list['Value'] = field(default_factory=list)
    size: int = 1
    depth: int = 0
    weight: int = 1
    first: 'Value | None' = None
    all_keys: bool = True
    all_pairs: bool = True
    has_state: bool = False

    def put_in(self, values: list['Value']) -> None:
        """Remembers what is put into a container."""
        if self.first is None and values:
            self.first = values[0]
        self.weight += ENTRY * len(values)
        self.all_keys &= all(is_key(x) for x in values)
        self.all_pairs &= all(
            x.first is not None and is_key(x.first) for x in values
        )


def is_key(value: Value) -> bool:
    """Returns whether it is hashed at once, each time that it is used."""
    if value.kind == TUPLE:
        return value.size <= MAX_KEY and all(is_key(x) for x in value.items)
    if value.kind == PLAIN and isinstance(value.value, int):
        return abs(value.value) <= MAX_NUMBER  # else of one hash, if chosen
    return value.kind in (PLAIN, FUNCTION)


def normal_name(name: str) -> str:
    """Returns the name of today of what Python 2 or NumPy 1 called else."""
    name = re.sub(r'^__builtin__\.', 'builtins.', name)
    return re.sub(r'^numpy\.core\.', 'numpy._core.', name)
