_base_ = './faseg_r18_1xb8-3k_shapes-128x128.py'

# half as wide and with fewer layers: learns in minutes on two CPU cores
model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        feat_channels=64,
        pixel_decoder=dict(
            num_layers=1, feedforward_channels=256, num_groups=8
        ),
        transformer_decoder=dict(
            num_blocks=5, feedforward_channels=256, omega=8
        ),
        loss=dict(num_points=400),
    ),
    auxiliary_head=dict(in_channels=64),
)

max_iters = 800
optim_wrapper = dict(optimizer=dict(lr=3e-3, fused=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=200))
