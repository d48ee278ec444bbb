"""Per-pixel class scores from class and mask predictions.

The score of a class at a pixel is the sum over queries of class probability
times mask probability. Full-resolution masks would be the largest tensor
during inference, so only a few rows are computed at a time.

Shapes: B batch size, Q queries, K classes, h x w the masks, H x W the result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, get_num_threads

from .low_memory import chunks, is_recording
from .resize_rows import resize_rows


def merge_scores(
    classes: Tensor, masks: Tensor, size: tuple[int, int]
) -> Tensor:
    """Returns the scores of all classes at all pixels.

    Args:
        classes (Tensor): class probabilities, shape (B, Q, K).
        masks (Tensor): mask logits, shape (B, h, w, Q).
        size (tuple[int, int]): (H, W).

    Returns:
        Tensor: shape (B, K, H, W); not always contiguous.
    """
    needs_graph = classes.requires_grad or masks.requires_grad
    if needs_graph or is_recording(masks.device):
        return merge_scores_plain(classes, masks, size)
    height, width = size
    scores = masks.new_empty(len(masks), height, width, classes.size(2))
    images = zip(classes, masks, scores, strict=True)
    for image_classes, image_masks, out in images:
        merged = MergedScores(image_classes, image_masks, size)
        numel = width * merged.values_per_pixel
        for rows in chunks(height, numel, masks.device, get_num_threads()):
            merged.rows(rows.start, rows.stop, out[rows])
    return scores.permute(0, 3, 1, 2)


def merge_scores_plain(
    classes: Tensor, masks: Tensor, size: tuple[int, int]
) -> Tensor:
    """Reference implementation of :func:`merge_scores`, differentiable."""
    planar = masks.permute(0, 3, 1, 2)
    probability = F.interpolate(planar, size, mode='bilinear').sigmoid()
    return torch.einsum('bqk,bqhw->bkhw', classes.to(masks.dtype), probability)


class MergedScores:
    """Class scores of one image, computed a few rows at a time.

    Its interface is :class:`ScoreRows`.

    Args:
        classes (Tensor): class probabilities, shape (Q, K).
        masks (Tensor): mask logits, shape (h, w, Q).
        size (tuple[int, int]): (H, W).
    """

    def __init__(
        self, classes: Tensor, masks: Tensor, size: tuple[int, int]
    ) -> None:
        self.size = size
        self.num_classes = classes.size(1)
        self.values_per_pixel = sum(classes.shape)  # masks and scores
        self.device = masks.device
        self._classes = classes
        self._masks = masks

    def rows(self, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Returns the scores of rows ``start`` to ``stop - 1``, (.., W, K).

        ``out`` is an optional contiguous output tensor.
        """
        masks, classes = self._masks, self._classes
        rows = slice(start, stop)
        resized = resize_rows(masks, masks.size(0), 0, self.size, rows)
        # one product per row, so that threads read rows that they have written
        weights = classes.to(masks.dtype).expand(len(resized), -1, -1)
        return torch.bmm(resized.sigmoid_(), weights, out=out)
