"""Models, registered in the scope ``mmfaseg``."""

from .backbones import EfficientNetLite
from .decode_heads import FASegHead
from .dense_heads import FASegDetHead
from .layers import FASegDecoder
from .losses import MaskClassificationLoss
from .pixel_decoders import FASegPixelDecoder, MSDeformAttnPixelDecoder
from .segmentors import MaskClassificationTTA, MaskEncoderDecoder

__all__ = [
    'EfficientNetLite',
    'FASegDecoder',
    'FASegDetHead',
    'FASegHead',
    'FASegPixelDecoder',
    'MSDeformAttnPixelDecoder',
    'MaskClassificationLoss',
    'MaskClassificationTTA',
    'MaskEncoderDecoder',
]
