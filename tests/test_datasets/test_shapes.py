import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric

from mmfaseg.datasets import GenerateShapes, ShapesDataset

PIPELINE = [dict(type='mmfaseg.GenerateShapes'), dict(type='PackSegInputs')]


def _build(**options) -> ShapesDataset:
    settings = dict(length=6, image_size=(48, 64), pipeline=PIPELINE)
    settings.update(options)
    return DATASETS.build(dict(type='mmfaseg.ShapesDataset', **settings))


@pytest.mark.smoke
def test_pipeline_ends_in_packed_inputs():
    train = [
        PIPELINE[0],
        dict(type='RandomFlip', prob=1.0),
        dict(type='PhotoMetricDistortion'),
        PIPELINE[1],
    ]
    sample = _build(pipeline=train)[2]
    assert sample['inputs'].shape == (3, 48, 64)
    assert sample['inputs'].dtype == torch.uint8
    packed = sample['data_samples']
    assert packed.ori_shape == packed.img_shape == (48, 64)
    assert packed.img_path == 'shapes://train/000002'
    plain = _build()[2]['data_samples'].gt_sem_seg.data
    torch.testing.assert_close(packed.gt_sem_seg.data, plain.flip(-1))


def test_splits_share_no_image():
    images = set()
    for split in ('train', 'val', 'test'):
        dataset = _build(split=split, length=60, image_size=(32, 32))
        assert len(dataset) == 60
        images |= {dataset[i]['inputs'].numpy().tobytes() for i in range(60)}
    assert len(images) == 180


def test_images_do_not_depend_on_workers():
    batches = []
    for num_workers in (0, 2):
        loader = Runner.build_dataloader(
            dict(
                batch_size=2,
                num_workers=num_workers,
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='pseudo_collate'),
                dataset=_build(),
            ),
            seed=3,
        )
        batches.append([torch.stack(batch['inputs']) for batch in loader])
    torch.testing.assert_close(batches[0], batches[1])


def test_indices_and_lazy_init():
    whole = _build()
    part = _build(indices=[4, 1])
    assert len(part) == 2
    torch.testing.assert_close(part[0]['inputs'], whole[4]['inputs'])
    assert len(_build(indices=3)) == 3
    lazy = _build(lazy_init=True)
    lazy.full_init()
    torch.testing.assert_close(lazy[5]['inputs'], whole[5]['inputs'])


def test_classes_that_are_not_selected_are_ignored():
    every = _build()
    part = _build(metainfo=dict(classes=['wire', 'disc', 'ground']))
    assert part.metainfo['classes'] == ['wire', 'disc', 'ground']
    assert len(part.metainfo['palette']) == 3
    labels = every[0]['data_samples'].gt_sem_seg.data
    expected = torch.full_like(labels, 255)
    expected[labels == every.metainfo['classes'].index('wire')] = 0
    expected[labels == every.metainfo['classes'].index('disc')] = 1
    expected[labels == every.metainfo['classes'].index('ground')] = 2
    found = part[0]['data_samples'].gt_sem_seg.data
    torch.testing.assert_close(found, expected)


def test_metric_of_perfect_and_poor_prediction():
    dataset = _build()
    for blind, expected in ((False, 100.0), (True, 0.0)):
        metric = IoUMetric()
        metric.dataset_meta = dataset.metainfo
        for sample in dataset:
            packed = sample['data_samples'].to_dict()
            labels = packed['gt_sem_seg']['data']
            guess = (labels + 1) % 7 if blind else labels
            packed['pred_sem_seg'] = dict(data=guess)
            metric.process({}, [packed])
        assert metric.evaluate(len(dataset))['mIoU'] == expected


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(length=0), 'length'),
        (dict(split='training'), "'training'"),
        (dict(image_size=(128, 8)), 'image_size'),
        (dict(image_size=(32, 1024)), 'at most 28 times the other'),
        (dict(seed=-1), 'seed'),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        _build(**options)


def test_transform_rejects_entry_of_another_dataset():
    with pytest.raises(ValueError, match=r'mmfaseg\.ShapesDataset'):
        GenerateShapes()(dict(img_path='a.png', seg_fields=[]))


def test_palette_colors_are_distinct():
    palette = np.array(ShapesDataset.METAINFO['palette'])
    assert len(palette) == len(ShapesDataset.METAINFO['classes'])
    gaps = np.abs(palette[:, None] - palette[None]).sum(axis=2)
    assert gaps[~np.eye(len(palette), dtype=bool)].min() > 60
