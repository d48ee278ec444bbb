_base_ = [
    '../_base_/models/faseg_swin-t.py',
    '../_base_/datasets/cityscapes-512x1024.py',
    '../_base_/schedules/schedule_90k.py',
    '../_base_/default_runtime.py',
]

crop_size = (512, 1024)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(num_classes=19),
)
