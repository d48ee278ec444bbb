_base_ = [
    '../_base_/models/faseg_swin-l.py',
    '../_base_/datasets/pascal-context-59-480x480.py',
    '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py',
]

crop_size = (480, 480)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(num_classes=59),
)
