"""Strict constructors of NumPy arrays in pickled checkpoints.

NumPy's own constructors allow a crafted pickle to create arrays of object
pointers from arbitrary bytes. These accept numeric types only, and take all
values from the file.
"""

import codecs
import pickle
from collections import OrderedDict
from typing import Any, NoReturn

import numpy as np


class NumericDtype:
    """Stands for a ``numpy.dtype`` while a checkpoint is loaded.

    Args:
        code (str): type code of a number, such as ``'f4'``.
    """

    def __init__(self, code: str, *unused: bool) -> None:
        self.value = np.dtype(code)
        if self.value.kind not in 'biufc':
            raise pickle.UnpicklingError(
                f'unsupported array type {code!r}; only numbers are allowed'
            )

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


class LoadedArray(np.ndarray):
    """An array in a checkpoint; a pickle can only fill it once."""

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Rejects calls from a pickle."""
        raise pickle.UnpicklingError('numpy.ndarray must not be called')

    def __setstate__(self, state: tuple) -> None:
        if self.size:
            raise pickle.UnpicklingError('an array is filled twice')
        version, shape, dtype, is_fortran, data = state
        super().__setstate__((version, shape, dtype.value, is_fortran, data))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _reconstruct(kind: type, shape: tuple, code: bytes) -> np.ndarray:
    """Returns an empty array, which ``__setstate__`` fills."""
    if kind is not LoadedArray or shape != (0,):
        raise pickle.UnpicklingError('invalid call of numpy._reconstruct')
    reconstruct: Any = np.empty(0).__reduce__()[0]
    return reconstruct(kind, shape, code)


def _scalar(dtype: NumericDtype, data: bytes | str) -> np.generic:
    if isinstance(data, str):  # written by Python 2
        data = data.encode('latin1')
    return np.frombuffer(data, dtype.value, 1)[0]


def _from_buffer(
    buffer: bytes, dtype: NumericDtype, *layout: Any
) -> np.ndarray:
    from_buffer: Any = np.empty(0).__reduce_ex__(5)[0]
    return from_buffer(buffer, dtype.value, *layout)


# by the name in the pickle; NumPy 2 renamed numpy.core to numpy._core
CONSTRUCTORS: dict[str, Any] = {
    'numpy.dtype': NumericDtype,
    'numpy.ndarray': LoadedArray,
}
for _core in ('numpy.core', 'numpy._core'):
    CONSTRUCTORS[f'{_core}.multiarray._reconstruct'] = _reconstruct
    CONSTRUCTORS[f'{_core}.multiarray.scalar'] = _scalar
    CONSTRUCTORS[f'{_core}.numeric._frombuffer'] = _from_buffer


class NumpyUnpickler(pickle.Unpickler):
    """Loads containers, strings, numbers and NumPy arrays only."""

    allowed = CONSTRUCTORS | {
        'collections.OrderedDict': OrderedDict,
        '_codecs.encode': codecs.encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Returns an allowed constructor."""
        try:
            return self.allowed[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(
                f'unsupported object {module}.{name}'
            ) from None
