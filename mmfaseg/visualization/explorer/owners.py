"""Class and main query of each pixel.

Shapes:
    Q: number of queries.
    K: number of classes.
    h, w: size of the masks, stride 4.
    H, W: height and width of the network input, without padding.
"""

import numpy as np
import torch
from torch import Tensor

MASK_STRIDE = 4


def find_owners(
    classes: Tensor,
    masks: Tensor,
    size: tuple[int, int],
    min_score: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the class of each pixel and the query that contributes most.

    That query *owns* the pixel. No tensor holds all masks at full size.

    Args:
        classes (Tensor): Class probabilities without "no object", shape
            (Q, K).
        masks (Tensor): Mask logits, shape (Q, h, w).
        size (tuple[int, int]): H and W.
        min_score (float): Pixels with a lower best score have no class.

    Returns:
        tuple[np.ndarray, np.ndarray]: Classes and queries, int64, shape
        (H, W), -1 for none.

    Raises:
        ValueError: If the masks do not cover the image.
    """
    # imported here because other figures do not need the models
    from mmfaseg.models.layers.low_memory import chunks
    from mmfaseg.models.layers.resize_rows import resize_rows

    classes = classes.float().cpu()
    pixels = masks.float().cpu().permute(1, 2, 0).contiguous()  # (h, w, Q)
    height, width = (length * MASK_STRIDE for length in pixels.shape[:2])
    if height < size[0] or width < size[1]:
        raise ValueError(
            f'the masks cover {height}x{width} pixels, less than the image '
            f'of {size[0]}x{size[1]}; pass the image at the size of the '
            'network input'
        )
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
