"""Access to the datasets inside wrappers such as ``ConcatDataset``."""

from collections.abc import Iterator
from typing import Any


def inner_datasets(dataset: Any) -> Iterator[Any]:
    """Yields a dataset, or those it wraps, at any depth."""
    inner = getattr(dataset, 'datasets', None)
    if inner is None and hasattr(dataset, 'dataset'):
        inner = [dataset.dataset]
    if inner is None:
        yield dataset
        return
    for part in inner:
        yield from inner_datasets(part)


def ignored_label(dataset: Any) -> int:
    """Returns ``ignore_index`` of a dataset; of a wrapper, that of the first.

    It is 255 if the dataset does not define it.
    """
    return getattr(next(inner_datasets(dataset)), 'ignore_index', 255)
