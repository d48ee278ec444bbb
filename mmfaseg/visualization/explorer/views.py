"""Attention, masks and scores of every layer for the main queries.

Shapes:
    N: number of queries that own pixels; those with most pixels come first.
    Q: number of all queries.
    K: number of classes.
    H, W: height and width of the network input, without padding.
    H_l, W_l: size of a layer's level; H_3, W_3: size of the masks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class WindowBox(NamedTuple):
    """One selected window, cropped to the image.

    Attributes:
        rank (int): 1 for the most important window.
        left, top, right, bottom (int): Pixels; right and bottom are
            exclusive.
    """

    rank: int
    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class LayerView:
    """Attention and predictions of one layer.

    Attributes:
        layer (int): Index of the layer.
        stride (int): Stride of its level.
        attention (np.ndarray): Cross-attention of each query, averaged over
            the heads, float32, shape (N, H_l, W_l), each map sums to 1.
        preference (np.ndarray): Attention computed from positions only, same
            shape; see :func:`positional_preference`.
        masks (np.ndarray): Mask probabilities after the layer, shape
            (N, H_3, W_3).
        scores (np.ndarray): Class probabilities after the layer, "no object"
            last, shape (N, K + 1).
        entropy (np.ndarray): Entropy of the attention divided by its maximum
            over the cells that the layer can attend to, shape (N,); 0 for one
            cell, 1 for uniform attention.
        overlap (np.ndarray): Overlap of attention and preference, 0 to 1,
            shape (N,).
        centers (np.ndarray): Center of the attention, x and y in pixels of
            the image, without the padding, shape (N, 2).
        drift (np.ndarray): Distance to the center in the previous layer,
            relative to the image diagonal, shape (N,); NaN in the first
            layer.
        turn (np.ndarray): 1 minus the cosine of its positional query and the
            previous one, shape (N,); NaN in the first layer and at stride 4,
            where only the learned part is used.
        change (np.ndarray): 1 minus the IoU of the masks after and before the
            layer, shape (N,).
        windows (list[WindowBox]): Windows that all queries attend to, most
            important first; empty if the layer attends to the whole map, or
            if each query selects its own windows.
        importance (np.ndarray | None): Importance by which the windows are
            selected, shape (H_0, W_0); None if queries share no windows.
    """

    layer: int
    stride: int
    attention: np.ndarray
    preference: np.ndarray
    masks: np.ndarray
    scores: np.ndarray
    entropy: np.ndarray
    overlap: np.ndarray
    centers: np.ndarray
    drift: np.ndarray
    turn: np.ndarray
    change: np.ndarray
    windows: list[WindowBox]
    importance: np.ndarray | None


@dataclass(frozen=True)
class Exploration:
    """Attention and predictions of a network in one image.

    Attributes:
        image (np.ndarray): uint8, shape (H, W, 3), RGB.
        classes (list[str]): K names.
        palette (np.ndarray): Colors of the classes, uint8, shape (K, 3).
        labels (np.ndarray): Predicted classes, shape (H, W), -1 for none.
        owners (np.ndarray): Which of the N queries contributes most to the
            score of the predicted class, shape (H, W), -1 for none of them.
        queries (np.ndarray): Indices of the N queries, 0..Q-1.
        scores (np.ndarray): Class probabilities before the first layer, shape
            (N, K + 1).
        layers (list[LayerView]): One per layer.
    """

    image: np.ndarray
    classes: list[str]
    palette: np.ndarray
    labels: np.ndarray
    owners: np.ndarray
    queries: np.ndarray
    scores: np.ndarray
    layers: list[LayerView]
