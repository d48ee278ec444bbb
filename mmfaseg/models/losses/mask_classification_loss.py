"""Class, mask and dice losses of mask classification.

Cheng et al., *Mask2Former*, CVPR 2022, section 3.3: mask and dice losses are
computed at sampled points.

Shapes: B batch size, D predictions (of the initial queries and of each layer),
Q queries, K classes, n matches of an image, N matches in the batch, P points,
h x w the mask features (stride 4).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmfaseg.registry import MODELS

from ..layers.mask_predictor import MaskPredictions, multiply_masks
from ..task_modules import (
    MaskMatcher,
    MaskTargets,
    PointTargets,
    draw_points,
    sample_points,
)
from .class_weight import check_weight, expand_class_weight

Match = tuple[Tensor, Tensor]  # query indices and target indices, int64, (n,)


@MODELS.register_module()
class MaskClassificationLoss(nn.Module):
    """Class, mask and dice losses of all predictions.

    Args:
        num_classes (int): number of classes, K.
        loss_cls_weight (float): weight of ``loss_cls`` (cross-entropy) and of
            its matching cost.
        loss_mask_weight (float): weight of ``loss_mask`` (binary
            cross-entropy) and of its matching cost.
        loss_dice_weight (float): weight of ``loss_dice`` and of its matching
            cost.
        class_weight (Sequence[float], optional): weight of each class in the
            cross-entropy, 1 by default. An additional entry K + 1 is the
            weight of "no object" and must equal ``no_object_weight``.
        no_object_weight (float): weight of "no object" in the cross-entropy.
        num_points (int): number of sampled points per mask, P.
        oversample_ratio (float): number of random candidate points, as a
            multiple of P, from which uncertain points are selected.
        importance_sample_ratio (float): fraction of the P points that are
            uncertain, in [0, 1]; the others are sampled uniformly.
        exclude_ignored (bool): exclude ignored pixels from the mask and dice
            losses and from matching. If False, they count as pixels outside
            every mask, as in Mask2Former.

    Raises:
        TypeError: if a weight is not a number, or ``class_weight`` is not a
            sequence.
        ValueError: if an argument is out of range, ``class_weight`` has the
            wrong length, or its entry K + 1 is not ``no_object_weight``.
    """

    def __init__(
        self,
        num_classes: int,
        loss_cls_weight: float = 2.0,
        loss_mask_weight: float = 5.0,
        loss_dice_weight: float = 5.0,
        class_weight: Sequence[float] | None = None,
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
        exclude_ignored: bool = True,
    ) -> None:
        super().__init__()
        for name, weight in (
            ('loss_cls_weight', loss_cls_weight),
            ('loss_mask_weight', loss_mask_weight),
            ('loss_dice_weight', loss_dice_weight),
            ('no_object_weight', no_object_weight),
        ):
            check_weight(name, weight)
        if num_points < 1 or oversample_ratio < 1:
            raise ValueError(
                'num_points and oversample_ratio must be at least 1, got '
                f'{num_points} and {oversample_ratio}'
            )
        if not 0 <= importance_sample_ratio <= 1:
            raise ValueError(
                'importance_sample_ratio must be in [0, 1], got '
                f'{importance_sample_ratio}'
            )
        self.loss_cls_weight = loss_cls_weight
        self.loss_mask_weight = loss_mask_weight
        self.loss_dice_weight = loss_dice_weight
        self.num_points = num_points
        self.num_candidates = int(num_points * oversample_ratio)
        self.num_uncertain = int(num_points * importance_sample_ratio)
        self.exclude_ignored = exclude_ignored
        self.matcher = MaskMatcher(
            loss_cls_weight, loss_mask_weight, loss_dice_weight, num_points
        )
        weights = expand_class_weight(
            num_classes, class_weight, no_object_weight
        )
        self.register_buffer(
            'class_weight', torch.tensor(weights), persistent=False
        )

    class_weight: Tensor  # (K + 1,), "no object" last

    def forward(
        self,
        cls_scores: Sequence[Tensor],
        mask_preds: MaskPredictions,
        targets: Sequence[MaskTargets],
    ) -> dict[str, Tensor]:
        """Returns the weighted losses of all predictions.

        Mask logits of unmatched queries are used only in the matching costs,
        without gradients. Each prediction has class logits (B, Q, K + 1).

        Returns:
            dict[str, Tensor]: scalars ``loss_cls``, ``loss_mask`` and
            ``loss_dice`` of the last prediction, and the same names with
            prefixes ``d0.``, ``d1.``, ... for the earlier predictions.
        """
        if not self.exclude_ignored:
            targets = [MaskTargets(x.labels, x.masks) for x in targets]
        losses: dict[str, Tensor] = {}
        with torch.autocast(cls_scores[0].device.type, enabled=False):
            scores = _at_least_float(torch.stack(list(cls_scores)))
            matches = self.matcher(scores, mask_preds, targets)
            matched_masks = [
                _matched_masks(mask_preds, i, x) for i, x in enumerate(matches)
            ]
            point_targets = [PointTargets(x, scores.dtype) for x in targets]
            labels = self._query_labels(scores, matches, targets)
            weights = self.class_weight.to(scores)
            num_masks, weight_sums = self._avg_factors(
                targets, weights[labels]
            )
            last = len(scores) - 1
            for i in range(len(scores)):
                prefix = '' if i == last else f'd{i}.'
                loss_cls = F.cross_entropy(
                    scores[i].transpose(1, 2),
                    labels[i],
                    weights,
                    reduction='sum',
                )
                loss_mask, loss_dice = self._mask_losses(
                    [x[i] for x in matched_masks],
                    point_targets,
                    [x[i][1] for x in matches],
                )
                loss_cls = self.loss_cls_weight * loss_cls
                loss_mask = self.loss_mask_weight * loss_mask.sum()
                loss_dice = self.loss_dice_weight * loss_dice.sum()
                losses[f'{prefix}loss_cls'] = loss_cls / weight_sums[i]
                losses[f'{prefix}loss_mask'] = loss_mask / num_masks
                losses[f'{prefix}loss_dice'] = loss_dice / num_masks
        return losses

    @staticmethod
    def _query_labels(
        scores: Tensor,
        matches: Sequence[Sequence[Match]],
        targets: Sequence[MaskTargets],
    ) -> Tensor:
        """Returns the target class of each query, int64, shape (D, B, Q).

        Unmatched queries have the class K, "no object".
        """
        no_object = scores.size(-1) - 1
        labels = torch.full(scores.shape[:-1], no_object, device=scores.device)
        for b, (image_matches, image_targets) in enumerate(
            zip(matches, targets, strict=True)
        ):
            for i, (query_index, target_index) in enumerate(image_matches):
                labels[i, b, query_index] = image_targets.labels[target_index]
        return labels

    @staticmethod
    def _avg_factors(
        targets: Sequence[MaskTargets], weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the number of masks, and the summed ``weights``, (D,).

        Both are averaged over all processes, so that averaged gradients equal
        those of one process with all images. The weights are those of the
        target classes of all queries, shape (D, B, Q).
        """
        count = weights.new_tensor([sum(len(x.labels) for x in targets)])
        numbers = torch.cat([count, weights.sum((1, 2))])
        all_reduce(numbers, 'mean')
        eps = torch.finfo(numbers.dtype).eps  # all weights may be 0
        return numbers[0].clamp(min=1), numbers[1:].clamp(min=eps)

    def _mask_losses(
        self,
        masks: Sequence[Tensor],
        targets: Sequence[PointTargets],
        target_indices: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Returns the mask and dice losses of all matches, each (N,).

        Args:
            masks (Sequence[Tensor]): matched mask logits of each image, shape
                (n, h, w).
            targets (Sequence[PointTargets]): targets of each image.
            target_indices (Sequence[Tensor]): target of each mask, int64,
                shape (n,), distinct.
        """
        matched = torch.cat(list(masks))[:, None]  # (N, 1, h, w)
        if not len(matched):  # keeps parameters in the graph, as DDP requires
            zero = matched.sum() * 0
            return zero, zero
        counts = [len(x) for x in target_indices]
        points = self._choose_points(matched.detach(), targets, counts)
        image_points = points.split(counts)
        samples = map(
            PointTargets.sample, targets, target_indices, image_points
        )
        target = torch.cat(list(samples))
        logits = sample_points(matched, points)[:, 0]  # (N, P)
        probability = logits.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(
            logits, target, reduction='none'
        )
        num_points: int | Tensor = self.num_points
        ignored = _sample_ignored(targets, image_points)
        if ignored is not None:
            entropy = entropy.masked_fill(ignored, 0)
            probability = probability.masked_fill(ignored, 0)
            target = target.masked_fill(ignored, 0)
            num_points = (~ignored).sum(-1).clamp(min=1)
        loss_mask = entropy.sum(-1) / num_points
        overlap = 2 * (probability * target).sum(-1)
        total = probability.sum(-1) + target.sum(-1)
        return loss_mask, 1 - (overlap + 1) / (total + 1)

    def _choose_points(
        self,
        matched: Tensor,
        targets: Sequence[PointTargets],
        counts: Sequence[int],
    ) -> Tensor:
        """Returns uncertain and uniform random points, shape (N, P, 2).

        ``matched`` has the mask logits of all matches, shape (N, 1, h, w), of
        which each image has as many as ``counts``.
        """
        count = len(matched)
        points = draw_points((count, self.num_candidates), matched.device)
        uncertainty = -sample_points(matched, points)[:, 0].abs()
        ignored = _sample_ignored(targets, points.split(list(counts)))
        if ignored is not None:
            uncertainty = uncertainty.masked_fill(ignored, float('-inf'))
        # sorted, as sums in a changing order would amplify rounding errors
        index = uncertainty.topk(self.num_uncertain, dim=1).indices
        uncertain = points.gather(1, index[..., None].expand(-1, -1, 2))
        rest = self.num_points - self.num_uncertain
        uniform = draw_points((count, rest), matched.device)
        return torch.cat([uncertain, uniform], 1)


def _sample_ignored(
    targets: Sequence[PointTargets], points: Sequence[Tensor]
) -> Tensor | None:
    """Returns :meth:`PointTargets.sample_ignored` of all images, (N, P).

    Returns None if no image has ignored pixels.
    """
    if all(x.ignored is None for x in targets):
        return None
    return torch.cat(list(map(PointTargets.sample_ignored, targets, points)))


def _matched_masks(
    mask_preds: MaskPredictions, image: int, matches: Sequence[Match]
) -> Sequence[Tensor]:
    """Returns the mask logits of the matched queries of one image.

    A single matrix product computes those of all predictions, each (n, h, w).
    """
    counts = [len(query_index) for query_index, _ in matches]
    embeds = torch.cat(
        [
            mask_preds.embeds[i, image, query_index]
            for i, (query_index, _) in enumerate(matches)
        ]
    )
    masks = multiply_masks(embeds[None], mask_preds.features[image][None])
    return _at_least_float(masks[0]).split(counts)


def _at_least_float(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
