_base_ = [
    '../_base_/models/mask2former_r50.py',
    '../_base_/datasets/camvid-360x480.py',
    '../_base_/schedules/schedule_camvid.py',
    '../_base_/default_runtime.py',
]

num_classes = 11
crop_size = (360, 480)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(
        num_classes=num_classes,
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
    ),
)
