_base_ = [
    '../_base_/models/faseg_swin-l.py',
    '../_base_/datasets/coco-stuff164k-640x640.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/default_runtime.py',
]

crop_size = (640, 640)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(num_classes=171),
)
