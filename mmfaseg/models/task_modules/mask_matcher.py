"""Pairs queries with segments at the least cost.

Cheng et al., *Masked-attention Mask Transformer for Universal Image
Segmentation* (Mask2Former), CVPR 2022, section 3.3.

Shapes:
    B: batch size.
    D: number of predictions, one per block and one before.
    Q: number of queries.
    K: number of classes.
    n: number of segments.
    P: number of points.
    M: channels of the mask features.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from mmfaseg.utils.non_finite import NonFiniteError

from ..layers.chunks import chunks
from ..layers.mask_predictor import MaskPredictions, multiply_masks
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
        self,
        cls_scores: Tensor,
        mask_preds: MaskPredictions,
        segments: Sequence[Segments],
    ) -> list[list[tuple[Tensor, Tensor]]]:
        """Returns the pairs of each picture for each prediction.

        All costs are formed on the device and leave it in one transfer.

        Args:
            cls_scores (Tensor): class logits, shape (D, B, Q, K + 1).
            mask_preds (MaskPredictions): mask logits.
            segments (Sequence[Segments]): the truth of each picture.

        Returns:
            list[list[tuple[Tensor, Tensor]]]: for each of B pictures D pairs
            of int64 tensors of shape (min(Q, n),): the queries in ascending
            order, and the segment of each.

        Raises:
            NonFiniteError: if a cost is not finite.
        """
        costs = [
            self.cost(
                cls_scores[:, i],
                mask_preds.embeds[:, i],
                mask_preds.features[i],
                truth,
            )
            for i, truth in enumerate(segments)
        ]
        flat = torch.cat([x.flatten() for x in costs]).cpu()
        if not flat.isfinite().all():
            masks_finite = all(bool(x.isfinite().all()) for x in mask_preds)
            raise NonFiniteError(
                'the matching cost is not finite '
                f'(class logits finite: {bool(cls_scores.isfinite().all())}, '
                f'mask logits finite: {masks_finite}): '
                'training has diverged; lower the learning rate, keep '
                'gradient clipping on, or train in bfloat16 instead of '
                'float16'
            )
        parts = flat.split([x.numel() for x in costs])
        pairs = [
            [linear_sum_assignment(x) for x in part.view(cost.shape).numpy()]
            for part, cost in zip(parts, costs, strict=True)
        ]
        return _to_device(pairs, cls_scores.device)

    def cost(
        self,
        cls_scores: Tensor,
        embeds: Tensor,
        features: Tensor,
        segments: Segments,
    ) -> Tensor:
        """Returns the cost of every pair of one picture, (D, Q, n).

        Every prediction has freshly drawn points of its own.

        Args:
            cls_scores (Tensor): class logits, shape (D, Q, K + 1).
            embeds (Tensor): mask embeddings, shape (D, Q, M); mask logits are
                their products with the features.
            features (Tensor): mask features, shape (M, h, w).
            segments (Segments): the truth.
        """
        depth, queries = cls_scores.shape[:2]
        if not len(segments.labels):
            return cls_scores.new_zeros(depth, queries, 0)
        points = draw_points((depth, self.num_points), features.device)
        pixels = features.size(1) * features.size(2)
        numbers = queries * max(self.num_points, pixels)
        classes = -cls_scores.softmax(-1)[..., segments.labels]
        dtype = torch.promote_types(features.dtype, torch.float32)
        truth, ignored = segments.masks.to(dtype), None
        if segments.ignored is not None:
            ignored = segments.ignored[None].to(dtype)
        masks = [
            self._mask_cost(embeds[run], features, points[run], truth, ignored)
            for run in chunks(depth, numbers, features.device)
        ]
        return self.class_weight * classes + torch.cat(masks)

    def _mask_cost(
        self,
        embeds: Tensor,
        features: Tensor,
        points: Tensor,
        segments: Tensor,
        ignored: Tensor | None,
    ) -> Tensor:
        """Returns mask and dice costs of some predictions, (d, Q, n)."""
        masks = multiply_masks(
            embeds, features.expand(len(embeds), -1, -1, -1)
        )
        logits = sample_points(masks.to(segments.dtype), points)  # (d, Q, P)
        truth = _sample_once(segments, points)  # (d, n, P)
        weight = torch.ones_like(logits[:, :1])  # (d, 1, P)
        if ignored is not None:
            weight = (_sample_once(ignored, points) == 0).to(logits)
        truth = (truth * weight).transpose(1, 2)  # (d, P, n)
        # softplus(-x) t + softplus(x) (w - t) = softplus(x) w - x t
        entropy = F.softplus(logits) @ weight.transpose(1, 2) - logits @ truth
        mask_cost = entropy / weight.sum(-1, keepdim=True).clamp(min=1)
        probability = logits.sigmoid_() * weight
        overlap = 2 * probability @ truth
        total = probability.sum(-1)[..., None] + truth.sum(1)[:, None]
        dice_cost = 1 - (overlap + 1) / (total + 1)
        return self.mask_weight * mask_cost + self.dice_weight * dice_cost


def _to_device(
    pairs: list[list[tuple[np.ndarray, np.ndarray]]], device: torch.device
) -> list[list[tuple[Tensor, Tensor]]]:
    """Returns the same as tensors, in one transfer."""
    arrays = [x for picture in pairs for pair in picture for x in pair]
    flat = torch.from_numpy(np.concatenate(arrays)).to(device)
    tensors = iter(flat.split([len(x) for x in arrays]))
    return [[(next(tensors), next(tensors)) for _ in x] for x in pairs]


def _sample_once(maps: Tensor, points: Tensor) -> Tensor:
    """Samples the same (n, H, W) maps at (D, P, 2) points; (D, n, P)."""
    samples = sample_points(maps[None], points.flatten(0, 1)[None])
    return samples[0].unflatten(1, points.shape[:2]).transpose(0, 1)
