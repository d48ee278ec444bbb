_base_ = [
    '../_base_/models/faseg_swin-l.py',
    '../_base_/datasets/mapillary-v1-65-1024x1024.py',
    '../_base_/schedules/schedule_300k.py',
    '../_base_/default_runtime.py',
]

crop_size = (1024, 1024)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(num_classes=65),
)
