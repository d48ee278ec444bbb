"""The functions that a file of weights may call, and with what.

Those of PyTorch and NumPy that put tensors and arrays together, and a few
containers. Each has to be called as ``torch.save`` and NumPy call it: with
other arguments some make gigabytes, and some read memory that is not theirs.
"""

import math
import re
from collections.abc import Callable, Collection

import torch

from .pickle_values import (
    CONTAINER,
    FUNCTION,
    MAX_KEY,
    OBJECT,
    PLAIN,
    STORAGE,
    TUPLE,
    UntrustedError,
    Value,
)

_DTYPE = re.compile(r'[<>|=]?[?biufc]\d{0,2}|[bBhHiIlLqQefd]')


def check_call(function: Value, arguments: Value, limit: int) -> str:
    """Refuses what weights do not need.

    Args:
        function (Value): what is called.
        arguments (Value): with what.
        limit (int): no tensor has more elements.

    Returns:
        str: the name of the function.

    Raises:
        UntrustedError: if it is none of those that are known, or if they are
            not called so by ``torch.save`` or NumPy.
    """
    if function.kind != FUNCTION or arguments.kind != TUPLE:
        raise UntrustedError('it calls what is no function')
    name = function.name
    check = _CHECKS.get(name)
    if check is None and name not in _allowed_by_the_user():
        raise UntrustedError(f'it calls {name}')
    if check is not None and not check(arguments.items, limit):
        raise UntrustedError(f'it calls {name} with unusual arguments')
    return name


def _allowed_by_the_user() -> set[str]:
    """Returns what ``torch.serialization.add_safe_globals`` was given.

    Ours are pairs of function and name.
    """
    entries = torch.serialization.get_safe_globals()
    types = [x for x in entries if not isinstance(x, tuple)]
    return {f'{x.__module__}.{x.__qualname__}' for x in types}


def _is(item: Value, *kinds: type) -> bool:
    """Returns whether something is a short plain value of a type."""
    return item.kind == PLAIN and isinstance(item.value, kinds)


def _made_by(item: Value, name: str) -> bool:
    return item.kind == OBJECT and item.name == name


def _numbers(item: Value) -> list[int] | None:
    if item.kind != TUPLE or not all(_is(x, int) for x in item.items):
        return None
    return [x.value for x in item.items]


def _is_tensor(items: list[Value], limit: int) -> bool:
    """(storage, offset, size, stride, ...), not larger than the file."""
    if len(items) < 4 or not _made_by(items[0], STORAGE):
        return False
    size, stride = _numbers(items[2]), _numbers(items[3])
    if size is None or stride is None or min([*size, *stride, 0]) < 0:
        return False
    if math.prod(size) > limit:
        raise UntrustedError(f'it declares a tensor of shape {tuple(size)}')
    return True


def _is_set(items: list[Value], limit: int) -> bool:
    """A container of what can be a key."""
    return not items or (
        len(items) == 1 and items[0].kind == CONTAINER and items[0].all_keys
    )


def _is_ordered(items: list[Value], limit: int) -> bool:
    """Python 2 wrote a list of pairs."""
    return not items or (
        len(items) == 1 and items[0].kind == CONTAINER and items[0].all_pairs
    )


def _is_literal(items: list[Value], limit: int) -> bool:
    """Nothing that another call made."""
    return len(items) <= 1 and all(
        x.kind in (CONTAINER, TUPLE) and x.size <= MAX_KEY for x in items
    )


def _is_size(items: list[Value], limit: int) -> bool:
    return len(items) == 1 and _numbers(items[0]) is not None


def _is_encoded(items: list[Value], limit: int) -> bool:
    """Bytes as pickles of Python 2 have them."""
    return (
        len(items) == 2
        and items[0].kind == PLAIN
        and _is(items[1], str)
        and items[1].value in ('latin1', 'latin-1')
    )


def _is_bytes(items: list[Value], limit: int) -> bool:
    return (
        not items
        or (
            len(items) == 1
            and items[0].kind == PLAIN
            and ('BYTES' in items[0].name or 'STRING' in items[0].name)
        )
        or _is_encoded(items, limit)
        or (len(items) == 1 and _made_by(items[0], '_codecs.encode'))
    )


def _is_detour(items: list[Value], limit: int) -> bool:
    """(function, type, arguments, state): a tensor with attributes."""
    if len(items) != 4 or any(x.kind != FUNCTION for x in items[:2]):
        return False
    known = items[1].name in ('torch.Tensor', 'torch.nn.parameter.Parameter')
    return (
        known
        and items[0].name in _OF_TENSORS
        and items[2].kind == TUPLE
        and _CHECKS[items[0].name](items[2].items, limit)
    )


def _is_parameter(items: list[Value], limit: int) -> bool:
    return 3 <= len(items) <= 4 and items[0].kind == OBJECT


def _is_meta(items: list[Value], limit: int) -> bool:
    size = _numbers(items[1]) if len(items) > 1 else None
    return size is not None and math.prod(size) <= limit


def _is_dtype(items: list[Value], limit: int) -> bool:
    code = items[0].value if items and _is(items[0], str) else ''
    return _DTYPE.fullmatch(code) is not None


def _is_scalar(items: list[Value], limit: int) -> bool:
    return (
        len(items) == 2
        and _made_by(items[0], 'numpy.dtype')
        and (items[1].kind == PLAIN or _made_by(items[1], '_codecs.encode'))
    )


def _is_empty_array(items: list[Value], limit: int) -> bool:
    return (
        len(items) == 3
        and items[0].name == 'numpy.ndarray'
        and _numbers(items[1]) == [0]
    )


def _is_buffer(items: list[Value], limit: int) -> bool:
    """(bytes, type, shape, order), and the axes of some."""
    return (
        4 <= len(items) <= 5
        and (
            (items[0].kind == PLAIN and items[0].name in _BYTES)
            or _made_by(items[0], '_codecs.encode')
        )
        and _made_by(items[1], 'numpy.dtype')
        and _numbers(items[2]) is not None
        and _is(items[3], str)
        and items[3].value in ('C', 'F', 'K', 'A')
        and all(_numbers(x) is not None for x in items[4:])
    )


def _is_statistic(items: list[Value], limit: int) -> bool:
    return (
        len(items) == 2
        and items[0].kind == FUNCTION
        and items[0].name.endswith('.HistoryBuffer')
        and _is(items[1], str)
    )


def _is_plain(items: list[Value], limit: int) -> bool:
    return len(items) <= 2 and all(x.kind == PLAIN for x in items)


def _is_nothing(items: list[Value], limit: int) -> bool:
    return not items


def _is_layout(items: list[Value], limit: int) -> bool:
    return len(items) == 1 and _is(items[0], str)


def check_storage(
    value: Value, limit: int, storages: Collection[str] | None
) -> None:
    """Refuses what is no storage of the file.

    Args:
        value (Value): ('storage', type, key, place, elements, ...).
        limit (int): no storage has more elements.
        storages (Collection[str], optional): the keys that there are.

    Raises:
        UntrustedError: if it is none of those.
    """
    items = value.items
    good = (
        value.kind == TUPLE
        and len(items) in (5, 6)
        and items[1].kind in (FUNCTION, OBJECT)
        and _is(items[2], str)
        and (storages is None or items[2].value in storages)
        and _is(items[4], int)
        and 0 <= items[4].value <= limit
    )
    if not good:
        raise UntrustedError('it asks for a storage that it does not have')


def check_state(target: Value, state: Value) -> None:
    """Refuses unusual states of objects that a call has made.

    Args:
        target (Value): the object.
        state (Value): what it gets.

    Raises:
        UntrustedError: if weights have no such.
    """
    name = target.name
    if target.kind != OBJECT or target.has_state:
        # a second one would take away what is used already
        raise UntrustedError('it gives a state to what takes none')
    target.has_state = True
    if name == 'numpy.dtype':
        good = _is_plain_dtype(state)
    elif name == 'numpy._core.multiarray._reconstruct':
        good = _is_array_state(state)
    else:
        good = name in _HAVE_STATE or name in _allowed_by_the_user()
    if not good:
        raise UntrustedError(f'it gives an unusual state to what {name} made')


def _is_plain_dtype(state: Value) -> bool:
    """No fields and no objects, which NumPy would take for addresses."""
    values = [x.value for x in state.items]
    plain = all(x.kind == PLAIN for x in state.items)
    return (
        plain and len(values) == 8 and values[2:] == [None] * 3 + [-1, -1, 0]
    )


def _is_array_state(state: Value) -> bool:
    """(version, shape, type, order, bytes)."""
    items = state.items
    return (
        len(items) == 5
        and _numbers(items[1]) is not None
        and _made_by(items[2], 'numpy.dtype')
        and (items[4].kind == PLAIN or _made_by(items[4], '_codecs.encode'))
    )


_BYTES = ('BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8')
_OF_TENSORS = (
    *('torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2'),
    *('torch._utils._rebuild_tensor_v3', 'torch._utils._rebuild_parameter'),
)
_CHECKS: dict[str, Callable[[list[Value], int], bool]] = {
    **dict.fromkeys(_OF_TENSORS[:3], _is_tensor),
    'torch._utils._rebuild_parameter': _is_parameter,
    'torch._utils._rebuild_parameter_with_state': _is_parameter,
    'torch._utils._rebuild_meta_tensor_no_storage': _is_meta,
    'torch._tensor._rebuild_from_type_v2': _is_detour,
    'torch.serialization._get_layout': _is_layout,
    'torch.Size': _is_size,
    'torch.device': _is_plain,
    'collections.OrderedDict': _is_ordered,
    'collections.Counter': _is_set,
    'builtins.set': _is_set,
    'builtins.complex': _is_plain,
    'builtins.bytearray': _is_bytes,
    'builtins.bytes': _is_nothing,
    'builtins.getattr': _is_statistic,
    '_codecs.encode': _is_encoded,
    'numpy.dtype': _is_dtype,
    'numpy._core.multiarray._reconstruct': _is_empty_array,
    'numpy._core.multiarray.scalar': _is_scalar,
    'numpy._core.numeric._frombuffer': _is_buffer,
    'mmengine.logging.history_buffer.HistoryBuffer': _is_literal,
}
_HAVE_STATE = (
    'collections.OrderedDict',
    'mmengine.logging.history_buffer.HistoryBuffer',
)
