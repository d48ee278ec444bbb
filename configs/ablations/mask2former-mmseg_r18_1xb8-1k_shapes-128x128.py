_base_ = [
    '../_base_/models/mask2former_r18_study.py',
    '../_base_/datasets/shapes-128x128-study.py',
    '../_base_/schedules/schedule_study.py',
    '../_base_/default_runtime.py',
]
