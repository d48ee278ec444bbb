_base_ = './schedule_160k.py'

max_iters = 40000  # MMSegmentation, Pascal Context
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters)]
train_cfg = dict(max_iters=max_iters)
