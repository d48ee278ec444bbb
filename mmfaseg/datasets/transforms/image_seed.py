"""Random seeds that depend on the image."""

import hashlib
import re


def image_seed(results: dict, *parts: object) -> int:
    """Returns a seed that depends only on the image and the given values.

    Values are identified by their text, and an image by the last two
    components of its path, so that seeds do not change when a dataset is
    moved.

    Returns:
        int: in [0, 2**32), as NumPy accepts it.

    Raises:
        ValueError: if the entry has no path.
    """
    path = results.get('img_path')
    if not path:
        raise ValueError(
            f'img_path is {path!r}, but the seed depends on it: use a data '
            'set whose entries have an img_path'
        )
    name = '/'.join(re.split(r'[\\/]+', str(path))[-2:])
    text = '\n'.join(map(str, (name, *parts)))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], 'little')
