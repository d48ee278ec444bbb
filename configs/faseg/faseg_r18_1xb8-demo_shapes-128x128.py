_base_ = [
    '../_base_/models/faseg_r18_study.py',
    '../_base_/datasets/shapes-128x128.py',
    '../_base_/schedules/schedule_study.py',
    '../_base_/default_runtime.py',
]

# with fewer layers: learns in minutes on two CPU cores
model = dict(decode_head=dict(transformer_decoder=dict(num_layers=5)))

max_iters = 800
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
