"""Class and main query of each pixel.

Shapes:
    Q: queries.
    K: number of classes.
    h, w: the map of the masks, stride 4.
    H, W: size of the input image without padding.
"""

import numpy as np
import torch
from torch import Tensor

from ..focus_maps import STRIDES


def find_owners(
    classes: Tensor,
    masks: Tensor,
    size: tuple[int, int],
    min_score: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the class of each pixel and the query that contributes most.

    Rows are computed in chunks: no tensor holds all masks at full size.

    Args:
        classes (Tensor): class probabilities without "no object", shape
            (Q, K).
        masks (Tensor): mask logits, shape (Q, h, w).
        size (tuple[int, int]): H and W.
        min_score (float): pixels whose best class scores less have none.

    Returns:
        tuple[np.ndarray, np.ndarray]: classes and queries, int64, shape
        (H, W), -1 where there is none.
    """
    # lazy: only traced networks need the models
    from mmfaseg.models.layers.chunks import chunks
    from mmfaseg.models.layers.resize_rows import resize_rows

    classes = classes.float().cpu()
    pixels = masks.float().cpu().permute(1, 2, 0).contiguous()  # (h, w, Q)
    height, width = (length * STRIDES[3] for length in pixels.shape[:2])
    labels = torch.empty(size, dtype=torch.int64)
    owners = torch.empty(size, dtype=torch.int64)
    for rows in chunks(size[0], 2 * width * pixels.size(2), pixels.device):
        resized = resize_rows(pixels, pixels.size(0), 0, (height, width), rows)
        probabilities = resized[:, : size[1]].sigmoid()  # (r, W, Q)
        best, label = (probabilities @ classes).max(-1)
        owner = (probabilities * classes.T[label]).argmax(-1)
        found = best >= min_score
        labels[rows] = torch.where(found, label, -1)
        owners[rows] = torch.where(found, owner, -1)
    return labels.numpy(), owners.numpy()
