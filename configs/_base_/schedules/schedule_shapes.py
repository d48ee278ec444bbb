_base_ = './schedule_160k.py'

max_iters = 3000
# The backbone starts from random weights here and learns like the rest.
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))),
)
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=500)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=500))
auto_scale_lr = dict(base_batch_size=8)
