"""The seed of everything that happens to an image by chance, but always."""

import hashlib
import re


def image_seed(results: dict, *parts: object) -> int:
    """Returns a number that depends on the image and the parts alone.

    An image is known by the last two parts of its path, so that a data set
    that is moved to another folder or machine keeps its seeds; neither its
    position in the data set, nor the process, nor the order counts.

    Args:
        results: entry of a data set, with the key img_path.
        parts: what the number should depend on besides, by its text.

    Returns:
        int: in [0, 2**32), as NumPy takes it.

    Raises:
        ValueError: the entry has no path.
    """
    path = results.get('img_path')
    if not path:
        raise ValueError(
            f'img_path is {path!r}: the image is known by it; use a data '
            'set that names its images'
        )
    name = '/'.join(re.split(r'[\\/]+', str(path))[-2:])
    text = '\n'.join(map(str, (name, *parts)))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], 'little')
