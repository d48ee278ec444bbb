"""Backbones that mmseg and mmdet do not provide."""

from .efficientnet_lite import EfficientNetLite

__all__ = ['EfficientNetLite']
