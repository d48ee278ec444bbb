"""Import of ``mmcv.ops`` without compiled operators."""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

from ..utils.stack_info import StackInfo


class _MissingExtension(ModuleType):
    """Placeholder for ``mmcv._ext`` while ``mmcv.ops`` is imported.

    Every public attribute is a function that raises when called, so that
    ``mmcv.ops`` can be imported and only the use of an operator fails.
    """

    def __init__(self, mmcv: str) -> None:
        super().__init__('mmcv._ext')
        self._mmcv = mmcv

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith('_'):
            raise AttributeError(name)
        message = (
            f'the operator {name!r} requires mmcv with compiled operators, '
            f'but {self._mmcv} has none: build mmcv from source for this '
            'PyTorch, or use layers that do not call the operator'
        )

        def missing_op(*args: Any, **kwargs: Any) -> NoReturn:
            raise RuntimeError(message)

        return missing_op


def import_mmcv_ops_uncompiled(info: StackInfo) -> None:
    """Imports ``mmcv.ops`` with operators that raise when called."""
    if 'mmcv.ops' in sys.modules:
        return
    placeholder = _MissingExtension(' '.join(info.packages['mmcv']))
    sys.modules['mmcv._ext'] = placeholder
    try:
        importlib.import_module('mmcv.ops')
    finally:
        # mmengine looks up the loader of mmcv._ext to detect operators, and
        # fails if the module has none
        del sys.modules['mmcv._ext']


def check_compiled_mmcv_ops(info: StackInfo) -> None:
    """Raises ImportError if the compiled operators cannot be loaded."""
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        mmcv = info.packages['mmcv']
        raise ImportError(
            f'the compiled operators of {mmcv.name} {mmcv.version} do not '
            f'load with torch {info.torch}: build mmcv for this PyTorch, or '
            f'install mmcv-lite instead ({error})'
        ) from error
