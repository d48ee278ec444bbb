_base_ = './schedule_160k.py'

max_iters = 300000  # Mask2Former, Mapillary Vistas
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters)]
train_cfg = dict(max_iters=max_iters)
