"""Error messages for misplaced arguments in a config."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

ATTRIBUTE = 'misplaced_arguments'
Init = TypeVar('Init', bound=Callable[..., None])


def reject_misplaced(remedies: Mapping[str, str]) -> Callable[[Init], Init]:
    """Makes an ``__init__`` explain where misplaced arguments belong.

    The decorator preserves the signature. Arguments in the signature are
    accepted even if they have a remedy.

    Args:
        remedies (Mapping[str, str]): remedies by the names of arguments that
            the class does not have.

    Raises:
        TypeError: if the decorated ``__init__`` receives such an argument.
    """

    def decorate(init: Init) -> Init:
        parameters = inspect.signature(init).parameters
        misplaced = {k: v for k, v in remedies.items() if k not in parameters}

        @functools.wraps(init)
        def checked_init(self: object, *args: Any, **kwargs: Any) -> None:
            lines = [f'{k}: {misplaced[k]}' for k in kwargs if k in misplaced]
            if lines:
                raise TypeError(
                    f'{type(self).__name__} does not have the arguments\n  '
                    + '\n  '.join(lines)
                )
            init(self, *args, **kwargs)

        checked_init.__dict__[ATTRIBUTE] = misplaced
        return cast(Init, checked_init)

    return decorate


def find_remedies(kind: type) -> Mapping[str, str]:
    """Returns the misplaced arguments of a class and their remedies."""
    return getattr(getattr(kind, '__init__', None), ATTRIBUTE, {})
