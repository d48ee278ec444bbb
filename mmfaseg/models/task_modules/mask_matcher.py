"""Hungarian matching of queries with targets.

Cheng et al., *Masked-attention Mask Transformer for Universal Image
Segmentation* (Mask2Former), CVPR 2022, section 3.3.

Shapes: B batch size, D predictions (of the initial queries and of each layer),
Q queries, K classes, n targets of an image, P points, M channels of the mask
features, h x w the mask features (stride 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmfaseg.utils.non_finite import NonFiniteError

from ..layers.low_memory import chunks
from ..layers.mask_predictor import MaskPredictions, multiply_masks
from .mask_targets import MaskTargets
from .points import PointTargets, draw_points, sample_points


@dataclass
class MaskMatcher:
    """Hungarian matching on class, mask and dice costs at random points.

    Attributes:
        cls_cost_weight (float): weight of the negative class probability.
        mask_cost_weight (float): weight of the binary cross-entropy.
        dice_cost_weight (float): weight of the dice cost.
        num_points (int): number of points per image and prediction, P.
    """

    cls_cost_weight: float = 2.0
    mask_cost_weight: float = 5.0
    dice_cost_weight: float = 5.0
    num_points: int = 12544

    @torch.no_grad()
    def __call__(
        self,
        cls_scores: Tensor,
        mask_preds: MaskPredictions,
        targets: Sequence[MaskTargets],
    ) -> list[list[tuple[Tensor, Tensor]]]:
        """Returns the matches of each image for each prediction.

        All costs are computed on the device and copied to the CPU in one
        transfer. The class logits have the shape (D, B, Q, K + 1).

        Returns:
            list[list[tuple[Tensor, Tensor]]]: for each image and prediction,
            the indices of the matched queries in ascending order and of their
            targets, both int64, shape (min(Q, n),).

        Raises:
            NonFiniteError: if a cost is not finite.
        """
        costs = [
            self.cost(
                cls_scores[:, i],
                mask_preds.embeds[:, i],
                mask_preds.features[i],
                image_targets,
            )
            for i, image_targets in enumerate(targets)
        ]
        flat = torch.cat([x.flatten() for x in costs]).cpu()
        if not flat.isfinite().all():
            masks_finite = all(
                bool(mask_preds[i].isfinite().all())  # one at a time
                for i in range(len(mask_preds))
            )
            raise NonFiniteError(
                'the matching cost is not finite '
                f'(class logits finite: {bool(cls_scores.isfinite().all())}, '
                f'mask logits finite: {masks_finite}): '
                'training has diverged; lower the learning rate, keep '
                'gradient clipping on, or train in bfloat16 instead of '
                'float16'
            )
        parts = flat.split([x.numel() for x in costs])
        matches = [
            [linear_sum_assignment(x) for x in part.view(cost.shape).numpy()]
            for part, cost in zip(parts, costs, strict=True)
        ]
        return _to_device(matches, cls_scores.device)

    def cost(
        self,
        cls_scores: Tensor,
        embeds: Tensor,
        features: Tensor,
        targets: MaskTargets,
    ) -> Tensor:
        """Returns the costs of all pairs of queries and targets, (D, Q, n).

        Random points are drawn separately for each prediction.

        Args:
            cls_scores (Tensor): class logits, shape (D, Q, K + 1).
            embeds (Tensor): mask embeddings, shape (D, Q, M).
            features (Tensor): mask features, shape (M, h, w).
            targets (MaskTargets): targets of the image.
        """
        depth, queries = cls_scores.shape[:2]
        if not len(targets.labels):
            return cls_scores.new_zeros(depth, queries, 0)
        features = features.contiguous()  # for faster products of masks
        points = draw_points((depth, self.num_points), features.device)
        pixels = features.size(1) * features.size(2)
        numel = queries * max(self.num_points, pixels)
        cls_cost = -cls_scores.softmax(-1)[..., targets.labels]
        dtype = torch.promote_types(features.dtype, torch.float32)
        point_targets = PointTargets(targets, dtype)
        mask_costs = [
            self._mask_cost(
                embeds[chunk], features, points[chunk], point_targets
            )
            for chunk in chunks(depth, numel, features.device)
        ]
        return self.cls_cost_weight * cls_cost + torch.cat(mask_costs)

    def _mask_cost(
        self,
        embeds: Tensor,
        features: Tensor,
        points: Tensor,
        targets: PointTargets,
    ) -> Tensor:
        """Returns the weighted mask and dice costs, shape (d, Q, n).

        The arguments are those of :meth:`cost` for a chunk of d predictions,
        and points (d, P, 2).
        """
        masks = multiply_masks(
            embeds, features.expand(len(embeds), -1, -1, -1)
        )
        logits = sample_points(masks.to(targets.masks.dtype), points)
        ignored = targets.sample_ignored(points)
        weight = (~ignored).to(logits)[:, None]  # (d, 1, P)
        target = targets.sample_all(points) * weight
        target = target.transpose(1, 2)  # (d, P, n)
        # sum of softplus(-x) t + softplus(x) (w - t) = softplus(x) w - x t
        entropy = F.softplus(logits) @ weight.transpose(1, 2) - logits @ target
        mask_cost = entropy / weight.sum(-1, keepdim=True).clamp(min=1)
        probability = logits.sigmoid_().mul_(weight)  # (d, Q, P)
        overlap = 2 * (probability @ target)
        total = probability.sum(-1)[..., None] + target.sum(1)[:, None]
        dice_cost = 1 - (overlap + 1) / (total + 1)
        return (
            self.mask_cost_weight * mask_cost
            + self.dice_cost_weight * dice_cost
        )


def _to_device(
    matches: list[list[tuple[np.ndarray, np.ndarray]]], device: torch.device
) -> list[list[tuple[Tensor, Tensor]]]:
    """Returns the matches as tensors, copied to the device at once."""
    arrays = [x for image in matches for match in image for x in match]
    flat = torch.from_numpy(np.concatenate(arrays)).to(device)
    tensors = iter(flat.split([len(x) for x in arrays]))
    return [[(next(tensors), next(tensors)) for _ in x] for x in matches]
