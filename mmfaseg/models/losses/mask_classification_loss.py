"""Losses of mask classification, on sampled points.

Cheng et al., *Mask2Former*, CVPR 2022, section 3.3.

Shapes:
    B: batch size.
    Q: number of queries.
    K: number of classes.
    N: number of matched pairs in the batch.
    P: number of points.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmfaseg.registry import MODELS

from ..layers.mask_predictor import MaskPredictions, multiply_masks
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

    Raises:
        TypeError: if a weight is no number.
        ValueError: if a number is out of its range.
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
            if not isinstance(weight, (int, float)):
                raise TypeError(
                    f'{name} must be a number, got {weight!r}; '
                    'no_object_weight is the weight of the class "no object", '
                    'and the others weigh 1'
                )
            if not 0 <= weight < math.inf:
                raise ValueError(
                    f'{name} must be finite and not negative, got {weight}'
                )
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
        mask_preds: MaskPredictions,
        segments: Sequence[Segments],
    ) -> dict[str, Tensor]:
        """Returns the weighted losses of every prediction.

        Masks that no segment is paired with cost nothing: they are formed
        only to be compared, without a graph.

        Args:
            cls_scores (Sequence[Tensor]): class logits of each prediction,
                (B, Q, K + 1).
            mask_preds (MaskPredictions): mask logits.
            segments (Sequence[Segments]): the truth of each picture.

        Returns:
            dict[str, Tensor]: scalars ``loss_cls``, ``loss_mask`` and
            ``loss_dice`` of the last prediction, and the same names behind
            ``d0.``, ``d1.``, ... for those before it.
        """
        if not self.exclude_ignored:
            segments = [Segments(x.labels, x.masks) for x in segments]
        losses: dict[str, Tensor] = {}
        with torch.autocast(cls_scores[0].device.type, enabled=False):
            scores = _at_least_float(torch.stack(list(cls_scores)))
            pairs = self.matcher(scores, mask_preds, segments)
            paired = [
                _paired_masks(mask_preds, i, x) for i, x in enumerate(pairs)
            ]
            truths = [_Truth(x, scores.dtype) for x in segments]
            targets = self._targets(scores, pairs, segments)
            weights = self.label_weights.to(scores)
            num_masks, weight_sums = self._denominators(
                segments, weights[targets]
            )
            last = len(scores) - 1
            for i in range(len(scores)):
                prefix = '' if i == last else f'd{i}.'
                loss_cls = F.cross_entropy(
                    scores[i].transpose(1, 2),
                    targets[i],
                    weights,
                    reduction='sum',
                )
                loss_mask, loss_dice = self._mask_losses(
                    [x[i] for x in paired], truths, [x[i][1] for x in pairs]
                )
                losses |= {
                    f'{prefix}loss_cls': self.class_weight
                    * loss_cls
                    / weight_sums[i],
                    f'{prefix}loss_mask': self.mask_weight
                    * loss_mask.sum()
                    / num_masks,
                    f'{prefix}loss_dice': self.dice_weight
                    * loss_dice.sum()
                    / num_masks,
                }
        return losses

    @staticmethod
    def _targets(
        scores: Tensor,
        pairs: Sequence[Sequence[Pairs]],
        segments: Sequence[Segments],
    ) -> Tensor:
        """Returns the class of each query, int64, shape (D, B, Q)."""
        no_object = scores.size(-1) - 1
        targets = torch.full(
            scores.shape[:-1], no_object, device=scores.device
        )
        for b, (of_picture, truth) in enumerate(
            zip(pairs, segments, strict=True)
        ):
            for i, (queries, chosen) in enumerate(of_picture):
                targets[i, b, queries] = truth.labels[chosen]
        return targets

    @staticmethod
    def _denominators(
        segments: Sequence[Segments], weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the number of masks, and the weights of each prediction.

        Both are means over the processes, so that the mean of their gradients
        is that of one process with all pictures.

        Args:
            segments (Sequence[Segments]): the truth of each picture.
            weights (Tensor): of the class of each query, (D, B, Q).

        Returns:
            tuple[Tensor, Tensor]: a number, and shape (D,).
        """
        count = weights.new_tensor([sum(len(x.labels) for x in segments)])
        numbers = torch.cat([count, weights.sum((1, 2))])
        all_reduce(numbers, 'mean')
        least = torch.finfo(numbers.dtype).eps  # no_object_weight may be 0
        return numbers[0].clamp(min=1), numbers[1:].clamp(min=least)

    def _mask_losses(
        self,
        masks: Sequence[Tensor],
        truths: Sequence['_Truth'],
        chosen: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Returns mask and dice loss of each of N pairs, shapes (N,).

        Args:
            masks (Sequence[Tensor]): logits of the paired queries of each
                picture, (n, h, w).
            truths (Sequence[_Truth]): the truth of each picture.
            chosen (Sequence[Tensor]): the segment of each pair, (n,).
        """
        matched = torch.cat(list(masks))[:, None]  # (N, 1, h, w)
        if not len(matched):  # keeps parameters in a distributed run's graph
            nothing = matched.sum() * 0
            return nothing, nothing
        counts = [len(x) for x in chosen]
        points = self._choose_points(matched.detach(), truths, counts)
        per_picture = points.split(counts)
        truth = torch.cat(
            [
                x.sample(index, part)
                for x, index, part in zip(
                    truths, chosen, per_picture, strict=True
                )
            ]
        )
        logits = sample_points(matched, points)[:, 0]  # (N, P)
        weight = 1 - _ignored(truths, per_picture)
        entropy = F.binary_cross_entropy_with_logits(
            logits, truth, weight, reduction='none'
        )
        loss_mask = entropy.sum(-1) / weight.sum(-1).clamp(min=1)
        probability, truth = logits.sigmoid() * weight, truth * weight
        overlap = 2 * (probability * truth).sum(-1)
        total = probability.sum(-1) + truth.sum(-1)
        return loss_mask, 1 - (overlap + 1) / (total + 1)

    def _choose_points(
        self,
        matched: Tensor,
        truths: Sequence['_Truth'],
        counts: Sequence[int],
    ) -> Tensor:
        """Returns mostly uncertain points of each mask, shape (N, P, 2)."""
        count = len(matched)
        points = draw_points((count, self.num_candidates), matched.device)
        uncertainty = -sample_points(matched, points)[:, 0].abs()
        if any(x.ignored is not None for x in truths):
            ignored = _ignored(truths, points.split(list(counts)))
            uncertainty = uncertainty.masked_fill(ignored > 0, float('-inf'))
        index = uncertainty.topk(self.num_uncertain, dim=1).indices
        uncertain = points.gather(1, index[..., None].expand(-1, -1, 2))
        rest = self.num_points - self.num_uncertain
        uniform = draw_points((count, rest), matched.device)
        return torch.cat([uncertain, uniform], 1)


class _Truth:
    """The segments of one picture, made ready for sampling once.

    Args:
        segments (Segments): the truth.
        dtype (torch.dtype): of the samples.
    """

    def __init__(self, segments: Segments, dtype: torch.dtype) -> None:
        self.masks = segments.masks.to(dtype)  # (n, H, W)
        self.ignored = None
        if segments.ignored is not None:
            self.ignored = segments.ignored.to(dtype)[None, None]

    def sample(self, chosen: Tensor, points: Tensor) -> Tensor:
        """Returns segment ``chosen[i]`` at ``points[i]``, shape (N, P).

        Where every segment is chosen, points are put in the order of the
        segments: they are much smaller than maps in the order of the points.
        """
        order = chosen.argsort()
        maps = self.masks
        if len(order) < len(maps):
            maps = maps[chosen[order]]
        samples = torch.empty_like(points[..., 0], dtype=maps.dtype)
        samples[order] = sample_points(maps[:, None], points[order])[:, 0]
        return samples

    def sample_ignored(self, points: Tensor) -> Tensor:
        """Returns 1 at points that touch ignored pixels, else 0; (N, P)."""
        if self.ignored is None:
            return torch.zeros_like(points[..., 0], dtype=self.masks.dtype)
        samples = sample_points(self.ignored, points.flatten(0, 1)[None])
        return (samples > 0).view(points.shape[:2]).to(self.masks.dtype)


def _ignored(truths: Sequence[_Truth], points: Sequence[Tensor]) -> Tensor:
    """Returns the same for the pairs of all pictures."""
    return torch.cat(
        [x.sample_ignored(y) for x, y in zip(truths, points, strict=True)]
    )


def _paired_masks(
    mask_preds: MaskPredictions, picture: int, pairs: Sequence[Pairs]
) -> Sequence[Tensor]:
    """Returns the paired masks of one picture for each prediction, (n, h, w).

    One product forms them all.
    """
    counts = [len(queries) for queries, _ in pairs]
    embeds = torch.cat(
        [
            mask_preds.embeds[i, picture, queries]
            for i, (queries, _) in enumerate(pairs)
        ]
    )
    masks = multiply_masks(embeds[None], mask_preds.features[picture][None])
    return _at_least_float(masks[0]).split(counts)


def _at_least_float(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
