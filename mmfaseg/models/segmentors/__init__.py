"""Wrappers around mmseg's segmentors."""

from .mask_classification_tta import MaskClassificationTTA

__all__ = ['MaskClassificationTTA']
