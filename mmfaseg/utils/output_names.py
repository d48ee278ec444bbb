"""Names of output files for the images of a dataset."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from .dataset_wrappers import inner_datasets


class OutputNames:
    """Assigns a different name to each image.

    A name is the path of the image relative to the folder of the images in
    the dataset, without suffix.

    Args:
        dataset (Any): a dataset, or a wrapper of datasets.
        separator (str): separator between folders in the names.
    """

    def __init__(self, dataset: Any, separator: str = '/') -> None:
        self._separator = separator
        self._folders = sorted(set(_image_folders(dataset)), key=len)
        self._sources: dict[str, str] = {}

    def __call__(self, path: str) -> str:
        """Returns the name of the image with this ``img_path``.

        Raises:
            ValueError: if another image has the same name.
        """
        name = self.unchecked(path)
        other = self._sources.setdefault(name, str(path))
        if other != str(path):
            raise ValueError(
                f'{path} and {other} have the same output name {name!r}: '
                'rename one of them, or test their folders separately'
            )
        return name

    def unchecked(self, path: str) -> str:
        """Returns the name of an image, which another image may have."""
        source = PurePosixPath(str(path).replace('\\', '/'))
        name = source.name
        for folder in self._folders:
            if source.is_relative_to(folder):
                name = source.relative_to(folder).as_posix()
        name = name.removesuffix(source.suffix)
        return name.replace('/', self._separator)


def _image_folders(dataset: Any) -> Iterator[str]:
    """Yields the image folders of a dataset, or of those it wraps."""
    for inner in inner_datasets(dataset):
        prefix = getattr(inner, 'data_prefix', None) or {}
        folder = prefix.get('img_path') or prefix.get('img')
        if folder:
            yield PurePosixPath(str(folder).replace('\\', '/')).as_posix()
