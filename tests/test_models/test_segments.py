"""The truth of instance and panoptic segmentation as segments."""

import pytest
import torch

from mmfaseg.models.task_modules import segments_from_objects

H, W = 4, 6
IGNORED = 255


def _mask(rows, columns):
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


def _none():
    return torch.zeros(0, H, W, dtype=torch.bool)


LEFT = _mask(slice(None), slice(0, 2))
TOP = _mask(slice(0, 1), slice(None))


def _segments(labels, masks, crowds=None, label_map=None, classes=3):
    return segments_from_objects(
        torch.tensor(labels, dtype=torch.int64),
        torch.stack(masks) if masks else _none(),
        torch.stack(crowds) if crowds else _none(),
        label_map,
        num_things=2,
        num_classes=classes,
    )


def test_objects_may_overlap_and_keep_their_order():
    found = _segments([1, 0], [LEFT, TOP], classes=2)
    assert found.labels.tolist() == [1, 0]
    assert torch.equal(found.masks, torch.stack([LEFT, TOP]))
    assert found.ignored is None


def test_no_objects():
    found = _segments([], [], classes=2)
    assert found.masks.shape == (0, H, W)
    assert found.ignored is None


def test_an_object_without_pixels_is_dropped():
    found = _segments([0, 1], [LEFT & ~LEFT, TOP], classes=2)
    assert found.labels.tolist() == [1]
    assert torch.equal(found.masks[0], TOP)


def test_crowds_are_ignored_where_no_object_lies():
    found = _segments([0], [LEFT], crowds=[TOP], classes=2)
    assert found.labels.tolist() == [0]
    assert torch.equal(found.ignored, TOP & ~LEFT)


def test_stuff_comes_from_the_label_map_behind_the_things():
    label_map = torch.full((H, W), 2)
    label_map[LEFT] = 0
    found = _segments([0], [LEFT], label_map=label_map)
    assert found.labels.tolist() == [0, 2]
    assert torch.equal(found.masks, torch.stack([LEFT, ~LEFT]))
    assert found.ignored is None


def test_void_and_the_things_of_a_crowd_are_ignored():
    """mmdet leaves the label of a crowd in the map, but no object."""
    label_map = torch.full((H, W), 2)
    label_map[LEFT] = 0
    label_map[3] = IGNORED
    label_map[:, 5] = 1  # a crowd
    found = _segments([0], [LEFT & (label_map == 0)], label_map=label_map)
    assert torch.equal(found.ignored, (label_map == 1) | (label_map == 255))
    assert torch.equal(found.masks[1], label_map == 2)


def test_a_label_map_without_stuff_gives_none():
    found = _segments([], [], label_map=torch.full((H, W), IGNORED))
    assert len(found.labels) == 0
    assert found.ignored.all()


@pytest.mark.parametrize('label', [-1, 2])
def test_label_of_an_object_must_be_a_thing(label):
    with pytest.raises(ValueError, match=rf'\[{label}\].*num_things_classes'):
        _segments([label], [LEFT])


def test_label_map_must_hold_known_classes():
    with pytest.raises(ValueError, match=r'holds \[3\]'):
        _segments([], [], label_map=torch.full((H, W), 3))
