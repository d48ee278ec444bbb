_base_ = [
    '../_base_/models/faseg_r50_frozen-bn.py',
    '../_base_/datasets/coco-stuff164k-512x512.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/default_runtime.py',
]

model = dict(decode_head=dict(num_classes=171))
