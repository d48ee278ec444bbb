_base_ = [
    '../_base_/models/faseg_r18_shapes.py',
    '../_base_/datasets/shapes-128x128.py',
    '../_base_/schedules/schedule_shapes.py',
    '../_base_/default_runtime.py',
]
