"""Check of numbers in configs."""

from numbers import Integral


def check_count(name: str, value: object) -> None:
    """Raises TypeError or ValueError unless a value is a positive integer."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f'{name}={value!r} must be an integer')
    if value < 1:
        raise ValueError(f'{name}={value} must be at least 1')
