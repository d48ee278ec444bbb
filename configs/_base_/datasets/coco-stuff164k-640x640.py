_base_ = './coco-stuff164k-512x512.py'

crop_size = (640, 640)
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(
    scales=[640 * tenths // 10 for tenths in range(5, 21)], max_size=2560
)
train_pipeline[3].update(crop_size=crop_size)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(2560, 640))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(2560 * n // 4, 640 * n // 4), keep_ratio=True)
    for n in range(2, 8)
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
