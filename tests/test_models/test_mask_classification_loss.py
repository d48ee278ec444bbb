from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.losses import CrossEntropyLoss

from mmfaseg.models import MaskClassificationLoss
from mmfaseg.models.task_modules import (
    MaskMatcher,
    MaskTargets,
    PointTargets,
    sample_points,
    targets_from_label_map,
)
from mmfaseg.testing import as_predictions, assert_close

K, Q, D = 4, 6, 3


def _predictions(batch=2, height=8, width=12, dtype=torch.float64):
    cls_scores = [
        torch.randn(batch, Q, K + 1, dtype=dtype, requires_grad=True)
        for _ in range(D)
    ]
    mask_preds = [
        torch.randn(batch, Q, height, width, dtype=dtype, requires_grad=True)
        for _ in range(D)
    ]
    return cls_scores, mask_preds


def _targets(*label_maps):
    return [targets_from_label_map(x, K, 255) for x in label_maps]


def _label_map(seed=0, height=32, width=48, classes=(0, 1, 3)):
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(len(classes), (4, 6), generator=generator)
    blocks = torch.tensor(classes)[blocks].repeat_interleave(height // 4, 0)
    return blocks.repeat_interleave(width // 6, 1)


def test_label_map_gives_one_target_per_class():
    label_map = torch.tensor([[3, 3, 255], [0, 3, 0]])
    targets = targets_from_label_map(label_map, K, 255)
    assert targets.labels.tolist() == [0, 3]
    assert targets.masks.int().tolist() == [
        [[0, 0, 0], [1, 0, 1]],
        [[1, 1, 0], [0, 1, 0]],
    ]
    assert targets.ignored.int().tolist() == [[0, 0, 1], [0, 0, 0]]
    assert targets_from_label_map(label_map * 0, K, 255).ignored is None


@pytest.mark.parametrize('label', [4, -1, 254])
def test_label_out_of_range_raises(label):
    label_map = torch.tensor([[0, label]])
    with pytest.raises(ValueError, match=rf'\[{label}\].*num_classes=4'):
        targets_from_label_map(label_map, K, 255)


def test_points_are_sampled_bilinearly():
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    points = torch.tensor([[[0.25, 0.25], [0.5, 0.5], [0.75, 0.5], [0, 0]]])
    assert sample_points(maps, points).tolist() == [[[0.0, 1.5, 2.0, 0.0]]]
    outside = torch.tensor([[[1.25, 0.75]]])
    assert sample_points(maps, outside).item() == 0


def test_channels_of_one_map_are_split_over_the_threads(monkeypatch):
    maps, points = torch.rand(1, 6, 5, 7), torch.rand(1, 9, 2)
    expected = [sample_points(x[None, None], points)[:, 0] for x in maps[0]]
    shapes = []
    grid_sample = F.grid_sample

    def record(maps, *args, **kwargs):
        shapes.append(tuple(maps.shape))
        return grid_sample(maps, *args, **kwargs)

    monkeypatch.setattr(F, 'grid_sample', record)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 4)
    found = sample_points(maps, points)
    assert shapes == [(2, 3, 5, 7)]
    assert torch.equal(found, torch.stack(expected, 1))


def test_matching_has_the_least_cost_of_all_permutations():
    cls_scores, mask_preds = _predictions(1)
    (targets,) = _targets(_label_map())
    matcher = MaskMatcher(num_points=64)
    cls_scores = torch.cat(cls_scores).detach()
    mask_preds = torch.cat(mask_preds).detach()
    torch.manual_seed(1)
    masks = as_predictions([mask_preds[:1], mask_preds[1:2], mask_preds[2:]])
    costs = matcher.cost(
        cls_scores, masks.embeds[:, 0], masks.features[0], targets
    )
    torch.manual_seed(1)
    (matches,) = matcher(cls_scores[:, None], masks, [targets])
    for cost, (query_index, target_index) in zip(costs, matches, strict=True):
        cheapest = min(
            sum(cost[q, n] for n, q in enumerate(order))
            for order in permutations(range(Q), len(targets.labels))
        )
        assert_close(cost[query_index, target_index].sum(), cheapest)


def test_matching_cost_equals_the_formula(monkeypatch):
    """Sampling is exact at the centers of all mask pixels."""
    (targets,) = _targets(_label_map(height=8, width=12))
    y, x = torch.meshgrid(
        (torch.arange(8) + 0.5) / 8,
        (torch.arange(12) + 0.5) / 12,
        indexing='ij',
    )
    centers = torch.stack([x, y], -1).view(1, -1, 2)
    monkeypatch.setattr(
        'mmfaseg.models.task_modules.mask_matcher.draw_points',
        lambda shape, device: centers.expand(shape[0], -1, -1),
    )
    cls_score = torch.randn(1, Q, K + 1, dtype=torch.float64)
    mask_pred = torch.randn(1, Q, 8, 12, dtype=torch.float64)
    embeds = torch.eye(Q, dtype=torch.float64)[None]
    cost = MaskMatcher().cost(cls_score, embeds, mask_pred[0], targets)[0]
    for q in range(Q):
        for n, label in enumerate(targets.labels):
            target = targets.masks[n].double()
            probability = mask_pred[0, q].sigmoid()
            entropy = F.binary_cross_entropy(probability, target)
            overlap = (probability * target).sum()
            dice = 1 - (2 * overlap + 1) / (
                probability.sum() + target.sum() + 1
            )
            class_probability = cls_score[0, q].softmax(-1)[label]
            expected = -2 * class_probability + 5 * entropy + 5 * dice
            torch.testing.assert_close(
                cost[q, n], expected, atol=1e-5, rtol=1e-5
            )


def test_mask_and_dice_losses_equal_the_formulas(monkeypatch):
    """At the centers of all mask pixels, for one target and one query."""
    y, x = torch.meshgrid(
        (torch.arange(8) + 0.5) / 8,
        (torch.arange(12) + 0.5) / 12,
        indexing='ij',
    )
    centers = torch.stack([x, y], -1).view(1, -1, 2)
    for module in (
        'losses.mask_classification_loss',
        'task_modules.mask_matcher',
    ):
        monkeypatch.setattr(
            f'mmfaseg.models.{module}.draw_points',
            lambda shape, device: centers[:, : shape[1]].expand(
                shape[0], -1, -1
            ),
        )
    label_map = torch.full((8, 12), 255)
    label_map[:4] = 2
    targets = targets_from_label_map(label_map, K, 255)
    masks = torch.randn(1, 1, 8, 12, dtype=torch.float64)
    loss = MaskClassificationLoss(
        K, num_points=96, importance_sample_ratio=0, exclude_ignored=False
    )
    losses = loss(
        [torch.randn(1, 1, K + 1).double()],
        as_predictions([masks]),
        [targets],
    )
    target, probability = targets.masks[0].double(), masks[0, 0].sigmoid()
    entropy = F.binary_cross_entropy(probability, target)
    overlap = (probability * target).sum()
    total = probability.sum() + target.sum()
    for name, expected in (
        ('loss_mask', 5 * entropy),
        ('loss_dice', 5 * (1 - (2 * overlap + 1) / (total + 1))),
    ):
        torch.testing.assert_close(
            losses[name], expected, atol=1e-5, rtol=1e-5
        )


def test_every_prediction_has_three_losses():
    cls_scores, mask_preds = _predictions()
    losses = MaskClassificationLoss(K, num_points=32)(
        cls_scores,
        as_predictions(mask_preds),
        _targets(_label_map(0), _label_map(1)),
    )
    kinds = ('loss_cls', 'loss_mask', 'loss_dice')
    assert set(losses) == {
        prefix + kind for prefix in ('', 'd0.', 'd1.') for kind in kinds
    }


def test_perfect_prediction_has_almost_no_loss():
    """Only points between two targets, where masks are blurred, add loss."""
    label_map = torch.zeros(32, 48, dtype=torch.int64)
    label_map[:, 24:] = 3
    (targets,) = _targets(label_map)
    cls_score = torch.full((1, Q, K + 1), -30.0)
    cls_score[0, range(Q), [0, 3, K, K, K, K]] = 30
    mask_pred = torch.full((1, Q, 32, 48), -30.0)
    mask_pred[0, :2][targets.masks] = 30
    loss = MaskClassificationLoss(K, num_points=500, oversample_ratio=1)
    right = loss([cls_score], as_predictions([mask_pred]), [targets])
    wrong = loss(
        [cls_score], as_predictions([mask_pred.roll(12, 3)]), [targets]
    )
    assert right['loss_cls'] < 1e-6
    assert right['loss_dice'] < 0.2 < 2 < wrong['loss_dice']
    assert right['loss_mask'] < 2 < 50 < wrong['loss_mask']


def test_unmatched_queries_learn_no_object_with_weight_0_1():
    cls_scores, mask_preds = _predictions(1)
    empty = MaskTargets(
        torch.empty(0, dtype=torch.int64), torch.empty(0, 32, 48) > 0
    )
    loss = MaskClassificationLoss(K, num_points=32)
    losses = loss(cls_scores, as_predictions(mask_preds), [empty])
    expected = 2 * F.cross_entropy(cls_scores[-1][0], torch.full((Q,), K))
    assert_close(losses['loss_cls'], expected)
    label_map = _label_map()
    losses = loss(cls_scores, as_predictions(mask_preds), _targets(label_map))
    total = sum(losses.values())
    gradients = torch.autograd.grad(total, cls_scores)
    tenth = torch.tensor(0.1).double()  # the weight is a float32
    weight = 2 * tenth / (3 + 3 * tenth)
    for gradient, scores in zip(gradients, cls_scores, strict=True):
        chance = scores.softmax(-1)[0]
        unmatched = (gradient[0, :, K] < 0).nonzero().squeeze(1)
        assert len(unmatched) == Q - 3
        expected = weight * (chance[unmatched, K] - 1)
        assert_close(gradient[0, unmatched, K], expected)


def test_no_object_weight_0_without_targets_gives_zero_losses():
    cls_scores, mask_preds = _predictions(1)
    empty = MaskTargets(
        torch.empty(0, dtype=torch.int64), torch.empty(0, 32, 48) > 0
    )
    loss = MaskClassificationLoss(K, num_points=32, no_object_weight=0.0)
    losses = loss(cls_scores, as_predictions(mask_preds), [empty])
    assert all(value == 0 for value in losses.values())


def test_predictions_at_ignored_pixels_do_not_change_the_losses():
    label_map = _label_map()
    label_map[8:, 16:40] = 255
    targets = _targets(label_map)
    cls_scores, mask_preds = _predictions(1)
    changed = [x.detach().clone() for x in mask_preds]
    for masks in changed:  # stride 4; one cell away from labeled pixels
        masks[..., 3:, 5:9] = 50 * torch.randn(1, Q, 5, 4)
    loss = MaskClassificationLoss(K, num_points=200)
    results = []
    for masks in (mask_preds, changed):
        torch.manual_seed(3)
        results.append(loss(cls_scores, as_predictions(masks), targets))
    for name, value in results[0].items():
        assert_close(results[1][name], value)
    everything = MaskClassificationLoss(
        K, num_points=200, exclude_ignored=False
    )
    other = everything(cls_scores, as_predictions(changed), targets)
    assert (other['loss_mask'] - results[0]['loss_mask']).abs() > 1


def test_ignored_pixels_get_no_gradient():
    label_map = _label_map()
    label_map[8:, 16:40] = 255
    cls_scores, mask_preds = _predictions(1)
    loss = MaskClassificationLoss(K, num_points=200)
    sum(
        loss(
            cls_scores, as_predictions(mask_preds), _targets(label_map)
        ).values()
    ).backward()
    for masks in mask_preds:
        assert masks.grad.abs().sum() > 0
        assert (masks.grad[..., 3:, 5:9] == 0).all()


@pytest.mark.parametrize('exclude_ignored', [True, False])
def test_fully_ignored_images_have_zero_mask_losses(exclude_ignored):
    nothing = torch.full((32, 48), 255)
    cls_scores, mask_preds = _predictions(2)
    loss = MaskClassificationLoss(
        K, num_points=32, exclude_ignored=exclude_ignored
    )
    losses = loss(
        cls_scores, as_predictions(mask_preds), _targets(nothing, nothing)
    )
    sum(losses.values()).backward()
    assert losses['loss_mask'] == losses['loss_dice'] == 0
    for x in (*cls_scores, *mask_preds):
        assert x.grad is not None and x.grad.isfinite().all()


def test_image_without_labels_gets_no_mask_gradient():
    nothing = torch.full((32, 48), 255)
    cls_scores, mask_preds = _predictions(2)
    loss = MaskClassificationLoss(K, num_points=32)
    losses = loss(
        cls_scores, as_predictions(mask_preds), _targets(nothing, _label_map())
    )
    sum(losses.values()).backward()
    for masks in mask_preds:
        assert (masks.grad[0] == 0).all()
        assert masks.grad[1].abs().sum() > 0


def test_more_targets_than_queries_train_every_query():
    classes = 2 * Q
    label_map = torch.arange(classes).repeat_interleave(4)[None].repeat(8, 1)
    targets = targets_from_label_map(label_map, classes, 255)
    cls_score = torch.randn(1, Q, classes + 1)
    mask_pred = torch.randn(1, Q, 2, classes, requires_grad=True)
    loss = MaskClassificationLoss(classes, num_points=64)
    losses = loss([cls_score], as_predictions([mask_pred]), [targets])
    losses['loss_mask'].backward()
    assert (mask_pred.grad.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize('kind', ['class', 'mask'])
def test_nan_logits_raise(kind):
    cls_scores, mask_preds = _predictions(1)
    broken = cls_scores if kind == 'class' else mask_preds
    with torch.no_grad():
        broken[1][0, 2] = float('nan')
    with pytest.raises(ValueError, match=f'{kind} logits finite: False'):
        MaskClassificationLoss(K, num_points=32)(
            cls_scores, as_predictions(mask_preds), _targets(_label_map())
        )


def test_losses_of_bfloat16_predictions_are_float32():
    cls_scores, mask_preds = _predictions(1, dtype=torch.bfloat16)
    losses = MaskClassificationLoss(K, num_points=32)(
        cls_scores, as_predictions(mask_preds), _targets(_label_map())
    )
    assert {x.dtype for x in losses.values()} == {torch.float32}


def test_uncertain_points_are_preferred():
    """Three quarters of the points lie where the logits are 0."""
    matched = torch.full((1, 1, 8, 8), 10.0)
    matched[..., 3:5] = 0  # a quarter of the image
    torch.manual_seed(0)
    loss = MaskClassificationLoss(K, num_points=400)
    none_ignored = MaskTargets(torch.zeros(1), torch.zeros(1, 8, 8) > 0)
    point_targets = PointTargets(none_ignored, torch.float32)
    points = loss._choose_points(matched, [point_targets], [1])
    uncertain = ((points[0, :, 0] - 0.5).abs() < 0.14).float().mean()
    assert 0.75 <= uncertain <= 0.95


def test_uncertain_points_avoid_ignored_pixels():
    ignored = torch.zeros(32, 32, dtype=torch.bool)
    ignored[:, :16] = True
    targets = MaskTargets(torch.zeros(1), ignored[None], ignored)
    torch.manual_seed(0)
    loss = MaskClassificationLoss(
        K, num_points=400, importance_sample_ratio=1.0
    )
    point_targets = PointTargets(targets, torch.float32)
    points = loss._choose_points(torch.randn(1, 1, 8, 8), [point_targets], [1])
    assert points.shape == (1, 400, 2)
    assert (points[..., 0] > 0.5).all()


CLASS_WEIGHT = [0.5, 2.0, 1.0, 4.0]
NO_OBJECT_WEIGHT = 0.3


@pytest.mark.parametrize('has_no_object', [False, True])
def test_class_weight_equals_weighted_cross_entropy(has_no_object):
    cls_scores, mask_preds = _predictions()
    predictions = as_predictions(mask_preds)
    targets = _targets(_label_map(0), _label_map(1, classes=(1, 2)))
    weights = [*CLASS_WEIGHT, NO_OBJECT_WEIGHT]
    loss = MaskClassificationLoss(
        K,
        loss_cls_weight=3.0,
        class_weight=weights if has_no_object else CLASS_WEIGHT,
        no_object_weight=NO_OBJECT_WEIGHT,
        num_points=64,
    ).double()
    torch.manual_seed(1)
    losses = loss(cls_scores, predictions, targets)
    torch.manual_seed(1)
    matches = loss.matcher(torch.stack(cls_scores), predictions, targets)
    mmdet_loss = CrossEntropyLoss(class_weight=weights, loss_weight=3.0)
    weights = torch.tensor(weights, dtype=torch.float64)
    for i, prefix in enumerate(('d0.', 'd1.', '')):
        labels = torch.full((2, Q), K)
        for image, image_targets in enumerate(targets):
            query_index, target_index = matches[image][i]
            labels[image, query_index] = image_targets.labels[target_index]
        scores, labels = cls_scores[i].flatten(0, 1), labels.flatten()
        expected = 3 * F.cross_entropy(scores, labels, weights)
        of_mmdet = mmdet_loss(scores, labels, avg_factor=weights[labels].sum())
        for value in (expected, of_mmdet):
            torch.testing.assert_close(
                losses[f'{prefix}loss_cls'], value, rtol=1e-6, atol=0
            )


def test_class_weight_of_ones_is_the_default():
    loss = MaskClassificationLoss(K, class_weight=(1,) * K)
    default = MaskClassificationLoss(K).class_weight
    assert torch.equal(loss.class_weight, default)
    assert_close(default, torch.tensor([1.0] * K + [0.1]))


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_points=0),
        dict(no_object_weight=-1.0),
        dict(loss_cls_weight=-2.0),
        dict(loss_dice_weight=float('nan')),
        dict(loss_mask_weight=float('inf')),
        dict(class_weight=[1.0, 1.0, -1.0, 1.0]),
        dict(class_weight=[1.0, 1.0, float('nan'), 1.0]),
        dict(oversample_ratio=0.5),
        dict(importance_sample_ratio=1.5),
    ],
)
def test_invalid_arguments_raise(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        MaskClassificationLoss(K, **arguments)


@pytest.mark.parametrize('length', [0, K - 1, K + 2])
def test_class_weight_of_the_wrong_length_raises(length):
    message = rf'class_weight has {length} entries, .*num_classes={K}: set'
    with pytest.raises(ValueError, match=message):
        MaskClassificationLoss(K, class_weight=[1.0] * length)


def test_class_weight_that_contradicts_no_object_weight_raises():
    with pytest.raises(ValueError, match=r'0\.2, and no_object_weight=0\.1'):
        MaskClassificationLoss(K, class_weight=[1.0] * K + [0.2])


@pytest.mark.parametrize('weight', [2.0, 'weights.npy'])
def test_class_weight_that_is_not_a_sequence_raises(weight):
    with pytest.raises(TypeError, match='set loss_cls_weight'):
        MaskClassificationLoss(K, class_weight=weight)


@pytest.mark.parametrize(
    'name', ['loss_cls_weight', 'loss_mask_weight', 'no_object_weight']
)
def test_weight_that_is_not_a_number_raises(name):
    with pytest.raises(TypeError, match=rf'{name} must be a number'):
        MaskClassificationLoss(K, **{name: [1.0] * K})
