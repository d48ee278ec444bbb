"""Shapes as COCO files, read by mmdet."""

import json

import cv2
import numpy as np
import pytest
from mmdet.datasets import CocoDataset, CocoPanopticDataset
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools.coco import COCO

from mmfaseg.datasets.shapes_canvas import CLASSES
from mmfaseg.datasets.shapes_coco import (
    CATEGORIES,
    THINGS,
    write_shapes_coco,
)
from mmfaseg.datasets.shapes_generator import (
    generate_shapes,
    generate_shapes_with_areas,
)

LENGTH, SIZE = 3, (64, 96)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes_coco')
    write_shapes_coco(folder, 'val', LENGTH, SIZE)
    return folder


def read(folder, kind):
    return json.loads((folder / f'annotations/{kind}_val.json').read_text())


@pytest.mark.parametrize('index', range(4))
def test_areas_have_one_class(index):
    """Lines and the ground belong to no area."""
    image, labels, areas = generate_shapes_with_areas(index)
    same, same_labels = generate_shapes(index)
    assert np.array_equal(image, same)
    assert np.array_equal(labels, same_labels)
    assert np.array_equal(areas > 0, np.isin(labels, THINGS))
    for number in np.unique(areas[areas > 0]):
        assert len(np.unique(labels[areas == number])) == 1


def test_instances_of_one_class_are_different_areas():
    """Every image has two or three regions, discs and crosses."""
    for index in range(4):
        _, labels, areas = generate_shapes_with_areas(index)
        counts = [len(np.unique(areas[labels == x])) for x in THINGS]
        assert max(counts) >= 2
        assert len(np.unique(areas)) - 1 == sum(counts)


def test_images_equal_the_dataset(folder):
    for index in range(LENGTH):
        image, _ = generate_shapes(index, 'val', SIZE)
        written = cv2.imread(str(folder / f'val/{index:06d}.png'))
        assert np.array_equal(written, image)


def test_objects_cover_the_areas(folder):
    coco = COCO(folder / 'annotations/instances_val.json')
    for index in range(LENGTH):
        _, labels, areas = generate_shapes_with_areas(index, 'val', SIZE)
        objects = coco.loadAnns(coco.getAnnIds(imgIds=[index]))
        assert len(objects) == len(np.unique(areas[areas > 0]))
        for each in objects:
            mask = coco.annToMask(each).astype(bool)
            assert len(np.unique(areas[mask])) == 1
            assert (areas == areas[mask][0]).sum() == mask.sum()
            name = coco.cats[each['category_id']]['name']
            assert {name} == {CLASSES[x] for x in labels[mask]}
            assert each['area'] == mask.sum()
            ys, xs = np.nonzero(mask)
            left, top, width, height = each['bbox']
            assert (left, top) == (xs.min(), ys.min())
            assert (width, height) == (np.ptp(xs) + 1, np.ptp(ys) + 1)


def test_object_ids_are_unique(folder):
    numbers = [x['id'] for x in read(folder, 'instances')['annotations']]
    assert numbers == list(range(1, len(numbers) + 1))


def test_things_come_first():
    flags = [x['isthing'] for x in CATEGORIES]
    assert flags == sorted(flags, reverse=True)
    assert [x['id'] for x in CATEGORIES] == list(range(1, 8))
    assert {x['name'] for x in CATEGORIES} == set(CLASSES)


def test_categories_of_configs_equal_the_files(root):
    folder = root / 'configs/_base_/datasets'
    cfg = Config.fromfile(folder / 'shapes-panoptic-128x128.py')
    names = [x['name'] for x in CATEGORIES]
    assert list(cfg.metainfo.classes) == names
    both = (*cfg.metainfo.thing_classes, *cfg.metainfo.stuff_classes)
    assert list(both) == names
    assert [list(x) for x in cfg.metainfo.palette] == [
        x['color'] for x in CATEGORIES
    ]
    cfg = Config.fromfile(folder / 'shapes-instance-128x128.py')
    assert list(cfg.metainfo.classes) == names[:4]
    assert [list(x) for x in cfg.metainfo.palette] == [
        x['color'] for x in CATEGORIES[:4]
    ]


def test_mmdet_reads_the_objects(folder):
    init_default_scope('mmdet')
    dataset = CocoDataset(
        ann_file='annotations/instances_val.json',
        data_root=str(folder),
        data_prefix=dict(img='val/'),
        metainfo=dict(classes=('stripes', 'checker', 'disc', 'cross')),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs', meta_keys=('img_id',)),
        ],
    )
    assert len(dataset) == LENGTH
    _, labels, areas = generate_shapes_with_areas(1, 'val', SIZE)
    objects = dataset[1]['data_samples'].gt_instances
    assert len(objects.labels) == len(np.unique(areas[areas > 0]))
    for label, mask in zip(
        objects.labels, objects.masks.to_ndarray(), strict=True
    ):
        assert set(labels[mask > 0]) == {THINGS[label]}


def test_mmdet_reads_the_panoptic_map(folder):
    init_default_scope('mmdet')
    names = [x['name'] for x in CATEGORIES]
    dataset = CocoPanopticDataset(
        ann_file='annotations/panoptic_val.json',
        data_root=str(folder),
        data_prefix=dict(img='val/', seg='panoptic_val/'),
        metainfo=dict(
            classes=names, thing_classes=names[:4], stuff_classes=names[4:]
        ),
        pipeline=[],
    )
    load = TRANSFORMS.build(dict(type='LoadPanopticAnnotations'))
    entry = dataset.get_data_info(2)
    found = load(dict(entry, ori_shape=SIZE))
    _, labels, areas = generate_shapes_with_areas(2, 'val', SIZE)
    by_name = np.array([names.index(x) for x in CLASSES])
    assert np.array_equal(found['gt_seg_map'], by_name[labels])
    assert len(found['gt_masks']) == len(np.unique(areas[areas > 0]))


def test_incomplete_split_has_no_annotations(tmp_path):
    write_shapes_coco(tmp_path, 'train', 2, SIZE)
    image = tmp_path / 'train/000001.png'
    image.unlink()
    image.mkdir()
    with pytest.raises(OSError, match=r'cannot write .*000001\.png'):
        write_shapes_coco(tmp_path, 'train', 2, SIZE)
    assert not list((tmp_path / 'annotations').glob('*.json'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('train', 0), 'length must be at least 1, got 0'),
        (('dev', 1), "split must be one of .*'dev'"),
        (('val', 1, (16, 64)), 'each at least 32'),
    ],
)
def test_invalid_arguments_raise(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_shapes_coco(tmp_path, *arguments)


@pytest.mark.slow
def test_tool_writes_all_splits(root, run_python, tmp_path):
    tool = root / 'tools/dataset_converters/shapes_to_coco.py'
    options = ['--out', tmp_path, '--image-size', 32, 64]
    run_python(tool, *options, '--train', 2, '--val', 1, '--test', 1)
    for split, length in (('train', 2), ('val', 1), ('test', 1)):
        assert len(list((tmp_path / split).glob('*.png'))) == length
        text = (tmp_path / f'annotations/panoptic_{split}.json').read_text()
        assert len(json.loads(text)['annotations']) == length
    done = run_python(tool, *options, '--val', 0, check=False)
    assert done.returncode == 1
    assert 'error: length must be at least 1, got 0' in done.stdout
