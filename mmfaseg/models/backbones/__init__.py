"""Backbones that mmseg and mmdet do not have."""

from .efficientnet_lite import EfficientNetLite

__all__ = ['EfficientNetLite']
