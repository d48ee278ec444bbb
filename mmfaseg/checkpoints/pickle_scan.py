"""What a pickle would do, found out without doing it.

PyTorch's safe loader, and ours for NumPy, run only functions that are known,
but with any arguments, as often as they are told, and on anything. Here the
functions and their arguments have to be those that weights and the states of
a training need.
"""

import pickletools
from collections.abc import Collection
from typing import IO, Any

from .pickle_calls import check_call, check_state, check_storage
from .pickle_values import (
    CONTAINER,
    ENTRY,
    FUNCTION,
    OBJECT,
    STORAGE,
    TUPLE,
    UntrustedError,
    Value,
    is_key,
    normal_name,
)

MAX_TUPLE = 1_000_000  # entries of a tuple with all tuples in it
MAX_DEPTH = 100  # of tuples in tuples
MAX_STORED = 1000  # letters of a string that are looked at
LEAST_ELEMENTS = 2**20  # that a tensor may have, however small the file
LEAST_WEIGHT = 2**26  # bytes that calls may take, however small the file

_MARK = pickletools.markobject
_CALLS = ('REDUCE', 'NEWOBJ')
# never in a file of weights, or not understood by all readers alike
_REFUSED = (
    *('OBJ', 'INST', 'NEWOBJ_EX', 'EXT1', 'EXT2', 'EXT4', 'NEXT_BUFFER'),
    *('READONLY_BUFFER', 'FROZENSET', 'PERSID'),
)
_KEYS = ('SETITEM', 'SETITEMS', 'DICT', 'ADDITEMS')


def check_pickle(
    file: IO[bytes], limit: int, storages: Collection[str] | None = None
) -> None:
    """Follows the instructions of a pickle without obeying any.

    Args:
        file (IO[bytes]): is read up to the end of the pickle.
        limit (int): bytes of the whole file: no tensor has more elements,
            and all calls together take no more than four times as many bytes.
        storages (Collection[str], optional): names of those that tensors may
            have; by default any.

    Raises:
        UntrustedError: if it calls what weights do not need, or would take
            too much memory or time.
        ValueError, LookupError: if it is damaged.
    """
    scan = _Scan(limit, storages)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file), 1):
        if opcode.name in _REFUSED:
            raise UntrustedError(f'it holds the instruction {opcode.name}')
        if not _move(opcode.name, argument, count, scan.stack, scan.memo):
            scan.make(opcode, argument)


class _Scan:
    """The stack of a pickle with stand-ins for what would be there."""

    def __init__(self, limit: int, storages: Collection[str] | None) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Value] = {}
        self.elements = max(limit, LEAST_ELEMENTS)
        self.weight = max(4 * limit, LEAST_WEIGHT)
        self.storages = storages

    def make(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Does to the stack what an instruction does."""
        name, taken = opcode.name, _take(opcode, self.stack)
        if name in _KEYS:
            _check_keys(name, taken)
        if name in _CALLS:
            made = self.call(*taken)
        elif name == 'BUILD':
            self.pay(taken[1])
            check_state(*taken)
            made = taken[0]
        elif name == 'GLOBAL':
            made = Value(FUNCTION, normal_name(argument.replace(' ', '.')))
        elif name == 'STACK_GLOBAL':
            name = f'{taken[0].value}.{taken[1].value}'
            made = Value(FUNCTION, normal_name(name))
        elif 'TUPLE' in name:
            made = _join(taken)
        elif name.startswith(('APPEND', 'SETITEM', 'ADDITEM')):
            made = taken[0]  # the same, with more in it
            made.put_in(taken[1:])
        elif name == 'BINPERSID':
            check_storage(taken[0], self.elements, self.storages)
            made = Value(OBJECT, STORAGE)
        elif name.endswith(('LIST', 'DICT', 'SET')):
            made = Value(CONTAINER)
            made.put_in(taken)
        elif name in ('NEWTRUE', 'NEWFALSE'):
            made = Value(value=name == 'NEWTRUE')
        else:
            made = _plain(name, argument)
        self.stack.extend([made] * len(opcode.stack_after))

    def call(self, function: Value, arguments: Value) -> Value:
        """Returns what a call gives."""
        name = check_call(function, arguments, self.elements)
        self.pay(arguments)
        return Value(OBJECT, name, weight=arguments.weight)

    def pay(self, value: Value) -> None:
        """Takes the weight of what is used from what may be used."""
        # containers may have grown since they were put into a tuple
        self.weight -= ENTRY + sum(x.weight for x in value.items)
        self.weight -= 0 if value.items else value.weight
        if self.weight < 0:
            raise UntrustedError('its calls take more memory than it has')


def _plain(name: str, argument: Any) -> Value:
    if isinstance(argument, (str, bytes, bytearray)):
        short = argument if len(argument) <= MAX_STORED else '...'
        return Value(name=name, value=short, weight=len(argument))
    return Value(name=name, value=argument)


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
    return Value(
        TUPLE,
        items=items,
        size=size,
        depth=depth,
        first=items[0] if items else None,
        weight=ENTRY + sum(x.weight for x in items),
    )


def _check_keys(name: str, taken: list[Value]) -> None:
    keys = taken[1:] if name == 'ADDITEMS' else taken[1::2]
    if name == 'DICT':
        keys = taken[::2]
    if not all(is_key(x) for x in keys):
        raise UntrustedError('a key in it is no string and no small number')
