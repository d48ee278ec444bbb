"""Checkpoints that somebody may have made to do harm.

PyTorch's safe loader runs nothing that a file asks for. It still lets a file
of a hundred bytes ask for all of the memory, or for a key that takes years to
hash. What is checked here first keeps the memory that a file takes near its
size, and its time to seconds.
"""

import mmap
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

MAX_TUPLE = 100_000  # entries of a tuple with all tuples in it
MAX_DEPTH = 100  # of tuples in tuples
OLD_PICKLES = 5  # that torch.save wrote one after the other before 1.6
# they make as many zeros as they are told to
ALLOCATORS = re.compile(
    r'(builtins|__builtin__)\.(bytearray|bytes)|'
    r'torch(\.\w+)*\.\w*(Tensor|Storage)'
)
DETOUR = 'torch._tensor._rebuild_from_type_v2'  # calls its first argument
_MARK = pickletools.markobject


# what the loaders of PyTorch, NumPy and Python raise
_UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    SafetensorError,
    RuntimeError,
    MemoryError,
    OverflowError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    AssertionError,
    TypeError,
    struct.error,
)


class UntrustedError(ValueError):
    """A file is damaged, or made to do harm."""


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Says which file it is that cannot be read.

    Raises:
        UntrustedError: whatever goes wrong with its content.
    """
    try:
        yield
    except _UNREADABLE as error:
        # around which PyTorch tells at length how to run it all the same
        reason = error.__context__ or error
        text = (str(reason) or type(reason).__name__).splitlines()[0]
        raise UntrustedError(
            f'{path} cannot be read as weights: it is damaged, or holds '
            f'objects that only its own program may load. ({text})'
        ) from error


def load_untrusted(
    path: str | Path,
    map_location: Any = 'cpu',
    use_mmap: bool = False,
) -> Any:
    """Returns what ``torch.save`` wrote, tensors and plain data only.

    Args:
        path (str | Path): the file.
        map_location (Any): see :func:`torch.load`.
        use_mmap (bool): leave the tensors on the disk until they are read;
            not possible with files from before PyTorch 1.6, which are read.

    Raises:
        UntrustedError: if it is damaged, asks for more memory than it has
            bytes, or for anything to be run.
    """
    path = Path(path)
    with explained(path):
        is_archive = zipfile.is_zipfile(path)
        if is_archive:
            _check_archive(path)
        else:
            check_old_file(path)
        content = torch.load(
            path,
            map_location=map_location,
            mmap=use_mmap and is_archive,
            weights_only=True,
        )
        _check_sizes(content, path.stat().st_size)
    return content


def _check_archive(path: Path) -> None:
    """Refuses an archive that grows when it is read."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise UntrustedError(
                    f'{entry.filename} in it is compressed, which torch.save '
                    f'never does, and would be {entry.file_size} bytes'
                )
        declared = sum(max(x.file_size, x.compress_size) for x in entries)
        if declared > path.stat().st_size:
            raise UntrustedError(
                f'its entries would be {declared} bytes, more than it has'
            )
        for entry in entries:
            if entry.filename.endswith('.pkl'):
                with archive.open(entry) as file:
                    check_pickle(file)


def check_old_file(path: Path) -> None:
    """Checks the pickles at the begin of a file that is no archive.

    Args:
        path (Path): of the file.

    Raises:
        UntrustedError: if it is empty, and see :func:`check_pickle`.
    """
    if not path.stat().st_size:
        raise UntrustedError('it is empty')
    # a read of too many bytes gives what is there, and reserves no more
    with (
        path.open('rb') as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        for number in range(OLD_PICKLES):
            count = check_pickle(content)  # type: ignore[arg-type]
            if number == 0 and count > 4:  # no magic number: it is alone
                return


class _Value(NamedTuple):
    """What is known of something on the stack of a pickle."""

    size: int = 1  # entries, of tuples in tuples
    depth: int = 0  # of tuples in tuples
    text: str = ''  # a string, the name of a function, a tuple's first


def check_pickle(file: IO[bytes]) -> int:
    """Follows the instructions of a pickle without obeying any.

    Args:
        file (IO[bytes]): is read up to the end of the pickle.

    Returns:
        int: number of instructions.

    Raises:
        UntrustedError: if a number in it reserves memory, or if a tuple of
            tuples would take too long to be hashed.
        ValueError, LookupError: if it is damaged.
    """
    stack: list[Any] = []
    memo: dict[int, _Value] = {}
    count = 0
    for opcode, argument, _ in pickletools.genops(file):
        count += 1
        _follow(opcode, argument, count, stack, memo)
    return count


def _follow(
    opcode: pickletools.OpcodeInfo,
    argument: Any,
    count: int,
    stack: list[Any],
    memo: dict[int, _Value],
) -> None:
    name = opcode.name
    if name == 'MARK':
        stack.append(_MARK)
        return
    if name in ('GET', 'BINGET', 'LONG_BINGET'):
        stack.append(memo[int(argument)])
        return
    if name in ('DUP', 'PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
        if stack[-1] is _MARK:
            raise UntrustedError('a mark is used as a value')
        if name == 'DUP':
            stack.append(stack[-1])
            return
        place = len(memo) if argument is None else int(argument)
        if not 0 <= place <= count:
            # pickle reserves a table up to there
            raise UntrustedError(f'it has no {place} values to remember')
        memo[place] = stack[-1]
        return
    taken = _take(opcode, stack)
    if name in ('REDUCE', 'NEWOBJ', 'NEWOBJ_EX', 'OBJ'):
        _check_call(taken[0].text, taken[1].text if taken[1:] else '')
    elif name == 'INST':
        _check_call(argument.replace(' ', '.'), '')
    made = _Value(text=argument if isinstance(argument, str) else '')
    if name == 'GLOBAL':
        made = _Value(text=argument.replace(' ', '.'))
    elif name == 'STACK_GLOBAL':
        made = _Value(text=f'{taken[0].text}.{taken[1].text}')
    elif 'TUPLE' in name or name == 'FROZENSET':
        made = _join(taken)
    elif name == 'BUILD' or name.startswith(('APPEND', 'SETITEM', 'ADDITEM')):
        made = taken[0]  # the same, with more in it
    stack.extend([made] * len(opcode.stack_after))


def _check_call(function: str, first: str) -> None:
    """Refuses functions that make memory, called by a detour, too."""
    called = first if function == DETOUR else function
    if ALLOCATORS.fullmatch(called) or called == DETOUR:
        raise UntrustedError(f'it calls {called}')


def _take(opcode: pickletools.OpcodeInfo, stack: list[Any]) -> list[_Value]:
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


def _join(values: list[_Value]) -> _Value:
    size = 1 + sum(x.size for x in values)
    depth = 1 + max((x.depth for x in values), default=0)
    if size > MAX_TUPLE or depth > MAX_DEPTH:
        raise UntrustedError(
            f'a tuple in it has {size} entries, {depth} deep: more than '
            f'{MAX_TUPLE}, or {MAX_DEPTH}'
        )
    return _Value(size, depth, values[0].text if values else '')


def _check_sizes(content: Any, limit: int) -> None:
    """Refuses tensors and arrays of more bytes than the file has."""
    for value in _leaves(content):
        size = value.nbytes
        if isinstance(value, Tensor) and value.layout == torch.strided:
            size = max(size, value.untyped_storage().nbytes())
        if size > limit:
            raise UntrustedError(
                f'it declares {tuple(value.shape)}, {size} bytes, and has '
                f'{limit}'
            )


def _leaves(content: Any) -> Iterator[Tensor | np.ndarray]:
    """Yields tensors and arrays, each once, however they are entangled."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (Tensor, np.ndarray)):
            yield value
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value
        elif hasattr(value, '__dict__') and not isinstance(value, type):
            waiting.append(vars(value))
