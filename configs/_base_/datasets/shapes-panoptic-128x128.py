_base_ = './shapes-instance-128x128.py'

dataset_type = 'CocoPanopticDataset'
data_root = 'data/shapes_coco/'
metainfo = dict(
    thing_classes=('stripes', 'checker', 'disc', 'cross'),
    stuff_classes=('ground', 'pole', 'wire'),
    classes=('stripes', 'checker', 'disc', 'cross', 'ground', 'pole', 'wire'),
    palette=[
        (232, 160, 64),
        (124, 92, 191),
        (214, 72, 72),
        (64, 172, 110),
        (96, 108, 118),
        (64, 144, 220),
        (246, 220, 92),
    ],
)
train_pipeline = _base_.train_pipeline
train_pipeline[1] = dict(type='LoadPanopticAnnotations')
test_pipeline = _base_.test_pipeline
test_pipeline[1] = dict(type='LoadPanopticAnnotations')
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(seg='panoptic_train/'),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(seg='panoptic_val/'),
        metainfo=metainfo,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        ann_file='annotations/panoptic_test.json',
        data_prefix=dict(seg='panoptic_test/'),
        metainfo=metainfo,
        pipeline=test_pipeline,
    ),
)

val_evaluator = dict(
    _delete_=True,
    type='CocoPanopticMetric',
    ann_file=data_root + 'annotations/panoptic_val.json',
    seg_prefix=data_root + 'panoptic_val/',
)
test_evaluator = dict(
    _delete_=True,
    type='CocoPanopticMetric',
    ann_file=data_root + 'annotations/panoptic_test.json',
    seg_prefix=data_root + 'panoptic_test/',
)
