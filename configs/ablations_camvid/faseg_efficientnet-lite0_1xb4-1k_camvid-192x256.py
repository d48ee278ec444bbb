_base_ = [
    '../_base_/models/faseg_efficientnet-lite0.py',
    '../_base_/datasets/camvid-192x256.py',
    '../_base_/schedules/schedule_1k.py',
    '../_base_/default_runtime.py',
]

crop_size = (192, 256)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(
        num_classes=11,
        loss=dict(num_points=768),  # a quarter of the mask pixels
    ),
)
