_base_ = './schedule_160k.py'

max_iters = 40000  # MMSegmentation, Pascal Context
param_scheduler = [
    dict(
        type='PolyLR',
        power=0.9,  # paper
        eta_min=0,
        begin=0,
        end=max_iters,
        by_epoch=False,
    )
]
train_cfg = dict(max_iters=max_iters)
