"""Pairs queries with segments at the least cost.

Cheng et al., *Masked-attention Mask Transformer for Universal Image
Segmentation* (Mask2Former), CVPR 2022, section 3.3.

Shapes:
    D: number of predictions, one per block and one before.
    Q: number of queries.
    K: number of classes.
    n: number of segments.
    P: number of points.
"""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from .points import draw_points, sample_points
from .segments import Segments


class MaskMatcher(nn.Module):
    """Hungarian matching on class, mask and dice costs at random points.

    Args:
        class_weight (float): weight of the class probability.
        mask_weight (float): weight of the binary cross-entropy.
        dice_weight (float): weight of the dice cost.
        num_points (int): P, points drawn per picture and prediction.
    """

    def __init__(
        self,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        num_points: int = 12544,
    ) -> None:
        super().__init__()
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.num_points = num_points

    @torch.no_grad()
    def forward(
        self, cls_scores: Tensor, mask_preds: Tensor, segments: Segments
    ) -> list[tuple[Tensor, Tensor]]:
        """Returns the pairs of one picture for each prediction.

        Args:
            cls_scores (Tensor): class logits, shape (D, Q, K + 1).
            mask_preds (Tensor): mask logits, shape (D, Q, h, w).
            segments (Segments): the truth.

        Returns:
            list[tuple[Tensor, Tensor]]: D pairs of int64 tensors of shape
            (min(Q, n),): the queries in ascending order, and the segment of
            each.

        Raises:
            ValueError: if a cost is not finite.
        """
        device = cls_scores.device
        if not len(segments.labels):
            empty = torch.empty(0, dtype=torch.int64, device=device)
            return [(empty, empty)] * len(cls_scores)
        costs = self.cost(cls_scores, mask_preds, segments).cpu()
        if not costs.isfinite().all():
            raise ValueError(
                'the matching cost is not finite '
                f'(class logits finite: {bool(cls_scores.isfinite().all())}, '
                f'mask logits finite: {bool(mask_preds.isfinite().all())}): '
                'training has diverged; lower the learning rate, keep '
                'gradient clipping on, or train in bfloat16 instead of '
                'float16'
            )
        pairs = []
        for cost in costs:
            queries, chosen = linear_sum_assignment(cost.numpy())
            pairs.append(
                (
                    torch.as_tensor(queries, device=device),
                    torch.as_tensor(chosen, device=device),
                )
            )
        return pairs

    def cost(
        self, cls_scores: Tensor, mask_preds: Tensor, segments: Segments
    ) -> Tensor:
        """Returns the cost of every pair, (D, Q, n), at freshly drawn points.

        Every prediction has points of its own; arguments as in ``forward``.
        """
        points = draw_points(
            (len(mask_preds), self.num_points), mask_preds.device
        )
        logits = sample_points(mask_preds, points)  # (D, Q, P)
        truth = _sample_once(segments.masks, points, logits)  # (D, n, P)
        weight = torch.ones_like(logits[:, :1])  # (D, 1, P)
        if segments.ignored is not None:
            ignored = _sample_once(segments.ignored[None], points, logits)
            weight = (ignored == 0).to(logits)
        truth = truth * weight
        absent = (weight - truth).transpose(1, 2)  # (D, P, n)
        truth = truth.transpose(1, 2)
        mask_cost = F.softplus(-logits) @ truth + F.softplus(logits) @ absent
        mask_cost = mask_cost / weight.sum(-1, keepdim=True).clamp(min=1)
        probability = logits.sigmoid() * weight
        overlap = 2 * probability @ truth
        total = probability.sum(-1)[..., None] + truth.sum(1)[:, None]
        dice_cost = 1 - (overlap + 1) / (total + 1)
        class_cost = -cls_scores.softmax(-1)[..., segments.labels]
        return (
            self.class_weight * class_cost
            + self.mask_weight * mask_cost
            + self.dice_weight * dice_cost
        )


def _sample_once(maps: Tensor, points: Tensor, like: Tensor) -> Tensor:
    """Samples the same (n, H, W) maps at (D, P, 2) points; (D, n, P)."""
    samples = sample_points(maps[None].to(like), points.flatten(0, 1)[None])
    return samples[0].unflatten(1, points.shape[:2]).transpose(0, 1)
