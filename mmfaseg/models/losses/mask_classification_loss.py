"""Losses of mask classification, on sampled points.

Cheng et al., *Mask2Former*, CVPR 2022, section 3.3.

Shapes:
    B: batch size.
    Q: number of queries.
    K: number of classes.
    N: number of matched pairs in the batch.
    P: number of points.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmfaseg.registry import MODELS

from ..task_modules import MaskMatcher, Segments, draw_points, sample_points

Pairs = tuple[Tensor, Tensor]  # queries and the segment of each


@MODELS.register_module()
class MaskClassificationLoss(nn.Module):
    """Class, mask and dice losses of all predictions.

    Args:
        num_classes (int): K.
        class_weight (float): weight of the class loss.
        mask_weight (float): weight of the mask loss (binary cross-entropy).
        dice_weight (float): weight of the dice loss.
        no_object_weight (float): weight of the class "no object".
        num_points (int): P, points per mask.
        oversample_ratio (float): candidates per uncertain point.
        importance_sample_ratio (float): share of the points that are the
            most uncertain candidates; the others are drawn uniformly.
        exclude_ignored (bool): leave pixels without a label out of the mask
            and dice losses and out of the matching. Mask2Former takes them
            as outside of every segment (False).
    """

    def __init__(
        self,
        num_classes: int,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
        exclude_ignored: bool = True,
    ) -> None:
        super().__init__()
        for name, weight in (
            ('class_weight', class_weight),
            ('mask_weight', mask_weight),
            ('dice_weight', dice_weight),
            ('no_object_weight', no_object_weight),
        ):
            if weight < 0:
                raise ValueError(f'{name} must not be negative, got {weight}')
        if num_points < 1 or oversample_ratio < 1:
            raise ValueError(
                'num_points and oversample_ratio must be at least 1, got '
                f'{num_points} and {oversample_ratio}'
            )
        if not 0 <= importance_sample_ratio <= 1:
            raise ValueError(
                'importance_sample_ratio must lie in [0, 1], got '
                f'{importance_sample_ratio}'
            )
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.num_points = num_points
        self.num_candidates = int(num_points * oversample_ratio)
        self.num_uncertain = int(num_points * importance_sample_ratio)
        self.exclude_ignored = exclude_ignored
        self.matcher = MaskMatcher(
            class_weight, mask_weight, dice_weight, num_points
        )
        weights = torch.ones(num_classes + 1)
        weights[-1] = no_object_weight
        self.register_buffer('label_weights', weights, persistent=False)

    label_weights: Tensor

    def forward(
        self,
        cls_scores: Sequence[Tensor],
        mask_preds: Sequence[Tensor],
        segments: Sequence[Segments],
    ) -> dict[str, Tensor]:
        """Returns the weighted losses of every prediction.

        Args:
            cls_scores (Sequence[Tensor]): class logits of each prediction,
                (B, Q, K + 1).
            mask_preds (Sequence[Tensor]): mask logits of each, (B, Q, h, w).
            segments (Sequence[Segments]): the truth of each picture.

        Returns:
            dict[str, Tensor]: scalars ``loss_cls``, ``loss_mask`` and
            ``loss_dice`` of the last prediction, and the same names behind
            ``d0.``, ``d1.``, ... for those before it.
        """
        if not self.exclude_ignored:
            segments = [Segments(x.labels, x.masks) for x in segments]
        num_masks = cls_scores[0].new_tensor(
            sum(len(x.labels) for x in segments), dtype=torch.float32
        )
        all_reduce(num_masks, 'mean')
        num_masks = num_masks.clamp(min=1)
        losses: dict[str, Tensor] = {}
        with torch.autocast(cls_scores[0].device.type, enabled=False):
            cls_scores = [_at_least_float(x) for x in cls_scores]
            mask_preds = [_at_least_float(x) for x in mask_preds]
            pairs = self._match(cls_scores, mask_preds, segments)
            ignored = _ignored_per_pair(segments, pairs[0], mask_preds[0])
            last = len(cls_scores) - 1
            for i, prediction in enumerate(
                zip(cls_scores, mask_preds, pairs, strict=True)
            ):
                prefix = '' if i == last else f'd{i}.'
                single = self._loss_of_prediction(
                    *prediction, segments, ignored, num_masks
                )
                losses |= {prefix + key: x for key, x in single.items()}
        return losses

    def _match(
        self,
        cls_scores: Sequence[Tensor],
        mask_preds: Sequence[Tensor],
        segments: Sequence[Segments],
    ) -> list[list[Pairs]]:
        """Returns the pairs of each picture for each prediction."""
        per_picture = [
            self.matcher(
                torch.stack([x[i] for x in cls_scores]),
                torch.stack([x[i].detach() for x in mask_preds]),
                truth,
            )
            for i, truth in enumerate(segments)
        ]
        return [list(x) for x in zip(*per_picture, strict=True)]

    def _loss_of_prediction(
        self,
        cls_score: Tensor,
        mask_pred: Tensor,
        pairs: Sequence[Pairs],
        segments: Sequence[Segments],
        ignored: Tensor | None,
        num_masks: Tensor,
    ) -> dict[str, Tensor]:
        no_object = cls_score.size(-1) - 1
        target = torch.full(
            cls_score.shape[:2], no_object, device=cls_score.device
        )
        for row, (queries, chosen), truth in zip(
            target, pairs, segments, strict=True
        ):
            row[queries] = truth.labels[chosen]
        loss_cls = F.cross_entropy(
            cls_score.transpose(1, 2), target, self.label_weights.to(cls_score)
        )
        matched = torch.cat(
            [
                masks[queries]
                for masks, (queries, _) in zip(mask_pred, pairs, strict=True)
            ]
        )  # (N, h, w)
        if len(matched):
            loss_mask, loss_dice = self._mask_losses(
                matched, segments, pairs, ignored
            )
        else:  # keeps every parameter in the graph of a distributed run
            loss_mask = loss_dice = mask_pred.sum()[None] * 0
        return {
            'loss_cls': self.class_weight * loss_cls,
            'loss_mask': self.mask_weight * loss_mask.sum() / num_masks,
            'loss_dice': self.dice_weight * loss_dice.sum() / num_masks,
        }

    def _mask_losses(
        self,
        matched: Tensor,
        segments: Sequence[Segments],
        pairs: Sequence[Pairs],
        ignored: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Returns mask and dice loss of each matched pair, shapes (N,)."""
        points = self._choose_points(matched[:, None].detach(), ignored)
        masks = torch.cat(
            [
                truth.masks[chosen]
                for truth, (_, chosen) in zip(segments, pairs, strict=True)
            ]
        )
        truth = sample_points(masks[:, None].to(matched), points)[:, 0]
        logits = sample_points(matched[:, None], points)[:, 0]  # (N, P)
        weight = torch.ones_like(logits)
        if ignored is not None:
            weight = (sample_points(ignored, points)[:, 0] == 0).to(logits)
        entropy = F.binary_cross_entropy_with_logits(
            logits, truth, weight, reduction='none'
        )
        loss_mask = entropy.sum(-1) / weight.sum(-1).clamp(min=1)
        probability, truth = logits.sigmoid() * weight, truth * weight
        overlap = 2 * (probability * truth).sum(-1)
        total = probability.sum(-1) + truth.sum(-1)
        return loss_mask, 1 - (overlap + 1) / (total + 1)

    def _choose_points(
        self, matched: Tensor, ignored: Tensor | None
    ) -> Tensor:
        """Returns mostly uncertain points of each mask, shape (N, P, 2)."""
        count = len(matched)
        points = draw_points((count, self.num_candidates), matched.device)
        uncertainty = -sample_points(matched, points)[:, 0].abs()
        if ignored is not None:
            uncertainty = uncertainty.masked_fill(
                sample_points(ignored, points)[:, 0] > 0, float('-inf')
            )
        index = uncertainty.topk(self.num_uncertain, dim=1).indices
        uncertain = points.gather(1, index[..., None].expand(-1, -1, 2))
        rest = self.num_points - self.num_uncertain
        uniform = draw_points((count, rest), matched.device)
        return torch.cat([uncertain, uniform], 1)


def _ignored_per_pair(
    segments: Sequence[Segments],
    pairs: Sequence[Pairs],
    like: Tensor,
) -> Tensor | None:
    """Returns the ignored pixels of each pair's picture, (N, 1, H, W).

    They are the same for every prediction, which pairs as many of a picture.
    """
    if all(truth.ignored is None for truth in segments):
        return None
    maps = []
    for truth, (queries, _) in zip(segments, pairs, strict=True):
        height, width = truth.masks.shape[1:]
        ignored = like.new_zeros(height, width)
        if truth.ignored is not None:
            ignored = truth.ignored.to(like)
        maps.append(ignored.expand(len(queries), 1, -1, -1))
    return torch.cat(maps)


def _at_least_float(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
