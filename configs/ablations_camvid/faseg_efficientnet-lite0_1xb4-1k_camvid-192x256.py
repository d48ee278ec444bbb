_base_ = [
    '../_base_/models/faseg_efficientnet-lite0.py',
    '../_base_/datasets/camvid-256x320.py',
    '../_base_/schedules/schedule_1k.py',
    '../_base_/default_runtime.py',
]

crop_size = (256, 320)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(
        num_classes=11,
        loss=dict(num_points=1280),  # a quarter of the mask pixels
    ),
)
