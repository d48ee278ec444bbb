_base_ = [
    '../_base_/models/faseg_r50.py',
    '../_base_/datasets/ade20k-512x512.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        norm_cfg=dict(type='BN', requires_grad=False),  # paper: frozen
        norm_eval=True,
    ),
)
