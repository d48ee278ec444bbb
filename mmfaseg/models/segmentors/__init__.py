"""Wrappers around mmseg's segmentors."""

from .mask_classification_tta import MaskClassificationTTA
from .mask_encoder_decoder import MaskEncoderDecoder

__all__ = ['MaskClassificationTTA', 'MaskEncoderDecoder']
