# pipelines of ADE20K with other scales, and no resize in tests
_base_ = './ade20k-512x512.py'

dataset_type = 'CityscapesDataset'
data_root = 'data/cityscapes'
crop_size = (512, 1024)  # paper
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(
    scales=[1024 * tenths // 10 for tenths in range(5, 21)], max_size=4096
)
train_pipeline[3].update(crop_size=crop_size)  # RandomCrop
test_pipeline = _base_.test_pipeline
del test_pipeline[1]  # Resize
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(2048 * n // 4, 1024 * n // 4), keep_ratio=True)
    for n in range(2, 8)  # paper: 0.5 to 1.75
]
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(
            img_path='leftImg8bit/train', seg_map_path='gtFine/train'
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(
            img_path='leftImg8bit/val', seg_map_path='gtFine/val'
        ),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
