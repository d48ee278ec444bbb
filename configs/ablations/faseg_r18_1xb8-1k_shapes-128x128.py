_base_ = [
    '../_base_/models/faseg_r18_study.py',
    '../_base_/datasets/shapes-128x128-study.py',
    '../_base_/schedules/schedule_study.py',
    '../_base_/default_runtime.py',
]
