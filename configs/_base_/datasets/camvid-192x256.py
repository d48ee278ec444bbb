_base_ = './camvid-360x480.py'

crop_size = (192, 256)
train_pipeline = _base_.train_pipeline
train_pipeline[3].update(crop_size=crop_size)  # RandomCrop
train_dataloader = dict(
    batch_size=4, num_workers=1, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=1)
# The results are those of the validation images.
test_dataloader = dict(
    num_workers=1,
    dataset=dict(data_prefix=dict(img_path='val', seg_map_path='valannot')),
)

test_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='mmfaseg.BoundaryIoU'),
    dict(type='mmfaseg.ComponentIoU', per_class=True),
]
