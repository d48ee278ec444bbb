_base_ = [
    '../_base_/models/faseg_r18_shapes.py',
    '../_base_/datasets/shapes-256x256.py',
    '../_base_/schedules/schedule_shapes.py',
    '../_base_/default_runtime.py',
]

data_preprocessor = dict(size=(256, 256))
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(loss=dict(num_points=3136)),
)
