_base_ = [
    '../_base_/models/faseg_efficientnet-lite0.py',
    '../_base_/datasets/camvid-360x480.py',
    '../_base_/schedules/schedule_1k.py',
    '../_base_/default_runtime.py',
]

crop_size = (360, 480)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(
        num_classes=11,
        loss=dict(num_points=2700),  # a quarter of the mask pixels
    ),
)
train_dataloader = dict(batch_size=4, num_workers=1)

max_iters = 8000
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=100, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=500)
custom_hooks = [
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.002)
]
