"""What a pickle would do, found out without doing it.

PyTorch's safe loader, and ours for NumPy, run only functions that are known,
but with any arguments, as often as they are told, and on anything. Here the
functions and their arguments have to be those that weights and the states of
a training need.
"""

import pickletools
from typing import IO, Any

from .pickle_calls import (
    CONTAINER,
    FUNCTION,
    MAX_KEY,
    OBJECT,
    STORAGE,
    TUPLE,
    UntrustedError,
    Value,
    check_call,
    check_state,
    normal_name,
)

MAX_TUPLE = 10_000  # entries of a tuple with all tuples in it
MAX_DEPTH = 100  # of tuples in tuples
MAX_NUMBER = 2**48  # that is a key
MAX_STORED = 1000  # letters of a string that are looked at
LEAST_ELEMENTS = 2**20  # that a tensor may have, however small the file


_MARK = pickletools.markobject
_CALLS = ('REDUCE', 'NEWOBJ')
# never in a file of weights, and not understood by all readers alike
_REFUSED = ('OBJ', 'INST', 'NEWOBJ_EX', 'EXT1', 'EXT2', 'EXT4', 'NEXT_BUFFER')
_KEYS = ('SETITEM', 'SETITEMS', 'DICT', 'ADDITEMS', 'FROZENSET')


def check_pickle(file: IO[bytes], limit: int) -> int:
    """Follows the instructions of a pickle without obeying any.

    Args:
        file (IO[bytes]): is read up to the end of the pickle.
        limit (int): bytes of the whole file: no tensor has more elements.

    Returns:
        int: number of instructions.

    Raises:
        UntrustedError: if it calls what weights do not need, or would take
            too much memory or time.
        ValueError, LookupError: if it is damaged.
    """
    stack: list[Any] = []
    memo: dict[int, Value] = {}
    count = 0
    for opcode, argument, _ in pickletools.genops(file):
        count += 1
        if opcode.name in _REFUSED:
            raise UntrustedError(f'it holds the instruction {opcode.name}')
        if not _move(opcode.name, argument, count, stack, memo):
            _make(opcode, argument, stack, max(limit, LEAST_ELEMENTS))
    return count


def _move(
    name: str,
    argument: Any,
    count: int,
    stack: list[Any],
    memo: dict[int, Value],
) -> bool:
    """Returns whether an instruction only moves what is there, and does it."""
    if name == 'MARK':
        stack.append(_MARK)
    elif name in ('GET', 'BINGET', 'LONG_BINGET'):
        stack.append(memo[int(argument)])
    elif name in ('DUP', 'PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
        if stack[-1] is _MARK:
            raise UntrustedError('a mark is used as a value')
        if name == 'DUP':
            stack.append(stack[-1])
            return True
        place = len(memo) if argument is None else int(argument)
        if not 0 <= place <= count:
            # pickle reserves a table up to there
            raise UntrustedError(f'it has no {place} values to remember')
        memo[place] = stack[-1]
    else:
        return False
    return True


def _make(
    opcode: pickletools.OpcodeInfo, argument: Any, stack: list[Any], limit: int
) -> None:
    """Does to the stack what an instruction does, with stand-ins."""
    name, taken = opcode.name, _take(opcode, stack)
    if name in _KEYS:
        _check_keys(name, taken)
    if name in _CALLS:
        made = Value(OBJECT, check_call(taken[0], taken[1], limit))
    elif name == 'BUILD':
        check_state(*taken)
        made = taken[0]
    elif name == 'GLOBAL':
        made = Value(FUNCTION, normal_name(argument.replace(' ', '.')))
    elif name == 'STACK_GLOBAL':
        made = Value(FUNCTION, f'{taken[0].value}.{taken[1].value}')
    elif 'TUPLE' in name:
        made = _join(taken)
    elif name.startswith(('APPEND', 'SETITEM', 'ADDITEM')):
        made = taken[0]  # the same, with more in it
    elif name.startswith('BINPERSID') or name == 'PERSID':
        made = Value(OBJECT, STORAGE)
    elif name.endswith(('LIST', 'DICT', 'SET')):
        made = Value(CONTAINER)
    elif name in ('NEWTRUE', 'NEWFALSE'):
        made = Value(value=name == 'NEWTRUE')
    else:
        short = not isinstance(argument, (str, bytes, bytearray)) or (
            len(argument) <= MAX_STORED
        )
        made = Value(name=name, value=argument if short else '...')
    stack.extend([made] * len(opcode.stack_after))


def _take(opcode: pickletools.OpcodeInfo, stack: list[Any]) -> list[Value]:
    """Removes and returns what an instruction uses."""
    before = opcode.stack_before
    taken: list[Any] = []
    if _MARK in before or (
        opcode.name == 'POP' and stack and stack[-1] is _MARK
    ):
        while stack[-1] is not _MARK:
            taken.append(stack.pop())
        stack.pop()
        before = before[: before.index(_MARK)] if _MARK in before else []
    for _ in before:
        value = stack.pop()
        if value is _MARK:
            raise UntrustedError('a mark is used as a value')
        taken.append(value)
    return taken[::-1]


def _join(items: list[Value]) -> Value:
    size = 1 + sum(x.size for x in items)
    depth = 1 + max((x.depth for x in items), default=0)
    if size > MAX_TUPLE or depth > MAX_DEPTH:
        raise UntrustedError(
            f'a tuple in it has {size} entries, {depth} deep: more than '
            f'{MAX_TUPLE}, or {MAX_DEPTH}'
        )
    return Value(TUPLE, items=items, size=size, depth=depth)


def _check_keys(name: str, taken: list[Value]) -> None:
    """A key is hashed each time that it is used."""
    keys = taken if name in ('ADDITEMS', 'FROZENSET') else taken[1::2]
    if name == 'DICT':
        keys = taken[::2]
    largest = max((x.size for x in keys), default=0)
    if largest > MAX_KEY:
        raise UntrustedError(
            f'a key in it is a tuple of {largest} entries, more than {MAX_KEY}'
        )
    numbers = [abs(x.value) for x in keys if isinstance(x.value, int)]
    if max(numbers, default=0) > MAX_NUMBER:
        # chosen so that all have one hash
        raise UntrustedError(f'a key in it is the number {max(numbers)}')
