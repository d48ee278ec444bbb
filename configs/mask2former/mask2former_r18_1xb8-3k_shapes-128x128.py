_base_ = [
    '../_base_/models/mask2former_r18_shapes.py',
    '../_base_/datasets/shapes-128x128.py',
    '../_base_/schedules/schedule_shapes.py',
    '../_base_/default_runtime.py',
]
