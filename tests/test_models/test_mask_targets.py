"""Targets of instance and panoptic segmentation."""

import pytest
import torch

from mmfaseg.models.task_modules import targets_from_instances

H, W = 4, 6
IGNORE_INDEX = 255


def _mask(rows, columns):
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


def _no_masks():
    return torch.zeros(0, H, W, dtype=torch.bool)


LEFT = _mask(slice(None), slice(0, 2))
TOP = _mask(slice(0, 1), slice(None))


def _targets(labels, masks, crowds=None, label_map=None, num_classes=3):
    return targets_from_instances(
        torch.tensor(labels, dtype=torch.int64),
        torch.stack(masks) if masks else _no_masks(),
        torch.stack(crowds) if crowds else _no_masks(),
        label_map,
        num_things_classes=2,
        num_classes=num_classes,
    )


def test_instances_may_overlap_and_keep_their_order():
    targets = _targets([1, 0], [LEFT, TOP], num_classes=2)
    assert targets.labels.tolist() == [1, 0]
    assert torch.equal(targets.masks, torch.stack([LEFT, TOP]))
    assert targets.ignored is None


def test_no_instances_give_no_targets():
    targets = _targets([], [], num_classes=2)
    assert targets.masks.shape == (0, H, W)
    assert targets.ignored is None


def test_instances_without_pixels_are_dropped():
    targets = _targets([0, 1], [LEFT & ~LEFT, TOP], num_classes=2)
    assert targets.labels.tolist() == [1]
    assert torch.equal(targets.masks[0], TOP)


def test_crowds_are_ignored_outside_of_instances():
    targets = _targets([0], [LEFT], crowds=[TOP], num_classes=2)
    assert targets.labels.tolist() == [0]
    assert torch.equal(targets.ignored, TOP & ~LEFT)


def test_stuff_targets_follow_the_instances():
    label_map = torch.full((H, W), 2)
    label_map[LEFT] = 0
    targets = _targets([0], [LEFT], label_map=label_map)
    assert targets.labels.tolist() == [0, 2]
    assert torch.equal(targets.masks, torch.stack([LEFT, ~LEFT]))
    assert targets.ignored is None


def test_void_and_thing_pixels_without_an_instance_are_ignored():
    """In the label map of mmdet, crowds have a label but no instance."""
    label_map = torch.full((H, W), 2)
    label_map[LEFT] = 0
    label_map[3] = IGNORE_INDEX
    label_map[:, 5] = 1  # a crowd
    targets = _targets([0], [LEFT & (label_map == 0)], label_map=label_map)
    assert torch.equal(targets.ignored, (label_map == 1) | (label_map == 255))
    assert torch.equal(targets.masks[1], label_map == 2)


def test_label_map_without_stuff_gives_no_targets():
    targets = _targets([], [], label_map=torch.full((H, W), IGNORE_INDEX))
    assert len(targets.labels) == 0
    assert targets.ignored.all()


@pytest.mark.parametrize('label', [-1, 2])
def test_instance_label_out_of_range_raises(label):
    with pytest.raises(ValueError, match=rf'\[{label}\].*num_things_classes'):
        _targets([label], [LEFT])


def test_label_map_with_an_unknown_class_raises():
    with pytest.raises(ValueError, match=r'contains \[3\]'):
        _targets([], [], label_map=torch.full((H, W), 3))
