_base_ = './mask2former_efficientnet-lite0_1xb4-1k_camvid-192x256.py'

max_iters = 2000
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters)
custom_hooks = [
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.002)
]
