_base_ = [
    '../_base_/models/faseg_swin-t.py',
    '../_base_/datasets/camvid-360x480.py',
    '../_base_/schedules/schedule_camvid.py',
    '../_base_/default_runtime.py',
]

crop_size = (360, 480)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(num_classes=11),
)
