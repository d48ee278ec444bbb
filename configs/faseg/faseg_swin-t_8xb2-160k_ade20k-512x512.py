_base_ = [
    '../_base_/models/faseg_swin-t.py',
    '../_base_/datasets/ade20k-512x512.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/default_runtime.py',
]
