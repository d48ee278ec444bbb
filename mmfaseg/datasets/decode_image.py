"""Decoding of image files that raises on damaged ones."""

import cv2
import mmcv
import numpy as np


class UnreadableError(ValueError):
    """A file cannot be used; the message names it."""


def decode_image(
    content: bytes, name: str, color_type: str = 'color'
) -> np.ndarray:
    """Decodes an image file to 8 bits per channel.

    The upper 8 bits of 16-bit images are kept, grayscale becomes three
    channels, transparency is dropped, CMYK becomes RGB, and the EXIF
    orientation is applied. OpenCV before 4.12 does not detect truncated JPEG
    files.

    Args:
        content (bytes): content of the file.
        name (str): name of the file in error messages.
        color_type (str): as in mmcv's ``LoadImageFromFile``;
            ``'color_ignore_orientation'`` does not apply the orientation.

    Returns:
        np.ndarray: uint8, shape (H, W, 3), BGR, for color images.

    Raises:
        UnreadableError: a ValueError, if the file is damaged, truncated or
            of an unknown format.
    """
    try:
        image = mmcv.imfrombytes(content, flag=color_type, backend='cv2')
    except cv2.error as error:  # an empty file, or too many pixels
        raise UnreadableError(
            f'{name} cannot be read as an image: {error}'
        ) from error
    if image is None:
        raise UnreadableError(
            f'{name} cannot be read as an image: it is damaged, truncated or '
            'of an unknown format'
        )
    return image
