_base_ = [
    '../_base_/models/mask2former_det_r18_study.py',
    '../_base_/datasets/shapes-instance-128x128.py',
    '../_base_/schedules/schedule_det_study.py',
    '../_base_/default_runtime_det.py',
]
