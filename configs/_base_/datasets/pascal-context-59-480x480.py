# pipelines of ADE20K with other scales, and RandomResize in training
_base_ = './ade20k-512x512.py'

dataset_type = 'PascalContextDataset59'
data_root = 'data/VOCdevkit/VOC2010'
crop_size = (480, 480)
train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(
    type='RandomResize',
    scale=(520, 520),
    ratio_range=(0.5, 2.0),
    keep_ratio=True,
)
train_pipeline[3].update(crop_size=crop_size)  # RandomCrop
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(520, 520))  # Resize
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(520 * n // 4, 520 * n // 4), keep_ratio=True)
    for n in range(2, 8)  # paper: 0.5 to 1.75
]
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(
            img_path='JPEGImages',
            seg_map_path='SegmentationClassContext',
        ),
        ann_file='ImageSets/SegmentationContext/train.txt',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(
            img_path='JPEGImages',
            seg_map_path='SegmentationClassContext',
        ),
        ann_file='ImageSets/SegmentationContext/val.txt',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
