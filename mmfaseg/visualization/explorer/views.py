"""What every layer did in one image, for the queries that were right there.

Shapes:
    N: queries that own pixels, most pixels first.
    Q: all queries.
    K: number of classes.
    H, W: height and width of the image as the network saw it, unpadded.
    H_l, W_l: the map of a layer's level; H_3, W_3: that of the masks.
"""

from dataclasses import dataclass, field

import numpy as np

from ..windows import WindowBox


@dataclass(frozen=True)
class LayerView:
    """What one layer did.

    Attributes:
        layer (int): its number, from 0.
        stride (int): of the map that it read.
        attention (np.ndarray): where each query looked, averaged over the
            heads, float32, shape (N, H_l, W_l), each sums to 1.
        preference (np.ndarray): where its positional query alone would have
            looked, likewise; see :func:`positional_preference`.
        masks (np.ndarray): mask probabilities after it, shape (N, H_3, W_3).
        scores (np.ndarray): class probabilities after it, "no object" last,
            shape (N, K + 1).
        entropy (np.ndarray): of the attention, 0 (one cell) to 1 (all alike
            that the layer could read: a whole map, or windows), shape (N,).
        overlap (np.ndarray): what attention and preference have in common, 0
            to 1, shape (N,).
        centres (np.ndarray): mean place of the attention, x and y in pixels
            of the image, padding left out, shape (N, 2).
        drift (np.ndarray): how far that is from where the layer before
            looked, as a share of the image's diagonal, shape (N,); NaN in
            the first layer.
        turn (np.ndarray): 1 less the cosine of its positional query and the
            one before, shape (N,); NaN in the first layer, and at stride 4,
            which is read with the learned part alone.
        change (np.ndarray): 1 less the IoU of the masks after and before it,
            shape (N,).
        windows (list[WindowBox]): that all queries read, best first; empty if
            the layer reads a whole map, or each query has its own.
    """

    layer: int
    stride: int
    attention: np.ndarray
    preference: np.ndarray
    masks: np.ndarray
    scores: np.ndarray
    entropy: np.ndarray
    overlap: np.ndarray
    centres: np.ndarray
    drift: np.ndarray
    turn: np.ndarray
    change: np.ndarray
    windows: list[WindowBox] = field(default_factory=list)


@dataclass(frozen=True)
class Exploration:
    """How the queries of one image came to their answers.

    Attributes:
        image (np.ndarray): uint8, shape (H, W, 3), RGB.
        classes (list[str]): K names.
        palette (np.ndarray): their colours, uint8, shape (K, 3).
        labels (np.ndarray): predicted classes, shape (H, W), -1 for none.
        owners (np.ndarray): which of the N queries adds most to the score of
            the predicted class, shape (H, W), -1 for none of them.
        queries (np.ndarray): numbers of the N queries, 0..Q-1.
        masks (np.ndarray): probabilities before the first layer, shape
            (N, H_3, W_3).
        scores (np.ndarray): of classes before it, shape (N, K + 1).
        layers (list[LayerView]): one per layer.
    """

    image: np.ndarray
    classes: list[str]
    palette: np.ndarray
    labels: np.ndarray
    owners: np.ndarray
    queries: np.ndarray
    masks: np.ndarray
    scores: np.ndarray
    layers: list[LayerView]
