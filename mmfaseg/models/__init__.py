"""Networks of mmfaseg, registered under the scope ``mmfaseg``."""

from .decode_heads import FASegHead
from .layers import FASegDecoder
from .losses import MaskClassificationLoss
from .pixel_decoders import FASegPixelDecoder
from .segmentors import MaskClassificationTTA

__all__ = [
    'FASegDecoder',
    'FASegHead',
    'FASegPixelDecoder',
    'MaskClassificationLoss',
    'MaskClassificationTTA',
]
