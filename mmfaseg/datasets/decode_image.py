"""Files of images to arrays, whole or not at all.

Shapes:
    H, W: height and width of an image in pixels.
"""

import io

import cv2
import mmcv
import numpy as np
from mmengine.utils import digit_version
from PIL import Image

# older ones read a JPEG that is cut off, the rest in grey
TELLS_CUT_JPEG = digit_version(cv2.__version__) >= digit_version('4.12')
JPEG = b'\xff\xd8'


class UnreadableError(ValueError):
    """A file is not what it should be; the message names it."""


def decode_image(
    content: bytes, name: str, color_type: str = 'color'
) -> np.ndarray:
    """Reads any kind of image as colours of 8 bits, turned as it says.

    Of 16 bits the upper 8 count, grey becomes three channels, transparency is
    dropped, CMYK becomes RGB.

    Args:
        content (bytes): of a file.
        name (str): what to call it in errors.
        color_type (str): as of mmcv's ``LoadImageFromFile``;
            ``'color_ignore_orientation'`` leaves it as it is stored.

    Returns:
        np.ndarray: uint8, shape (H, W, 3), BGR; for other colour types what
        they say.

    Raises:
        UnreadableError: a ValueError, if it cannot be read to its end.
    """
    try:
        image = mmcv.imfrombytes(content, flag=color_type, backend='cv2')
    except cv2.error as error:  # nothing in it, or too many pixels
        raise UnreadableError(
            f'{name} cannot be read as an image: {error}'
        ) from error
    if image is None or _is_cut_jpeg(content):
        raise UnreadableError(
            f'{name} cannot be read as an image: it is damaged, cut off, or '
            'of an unknown kind'
        )
    return image


def _is_cut_jpeg(content: bytes) -> bool:
    if TELLS_CUT_JPEG or not content.startswith(JPEG):
        return False
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.draft('RGB', (1, 1))  # an eighth of the size: fast
            image.load()
    except Image.DecompressionBombError:  # large, which is no damage
        return False
    except OSError:
        return True
    return False
