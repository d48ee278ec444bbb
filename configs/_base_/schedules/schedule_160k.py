max_iters = 160000  # paper, ADE20K

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW',
        lr=1e-4,  # paper
        weight_decay=0.05,  # paper
    ),
    clip_grad=dict(max_norm=0.01, norm_type=2),  # paper, the whole model
    constructor='mmfaseg.DecayFreeNormConstructor',  # paper
    paramwise_cfg=dict(
        custom_keys=dict(backbone=dict(lr_mult=0.1)),  # paper
    ),
)
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

train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    seeds=dict(type='mmfaseg.ExactResumeHook'),
    checkpoint=dict(
        type='mmfaseg.SafeCheckpointHook',
        by_epoch=False,
        interval=5000,
        max_keep_ckpts=2,
        save_best='mIoU',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='mmfaseg.DrawSegmentationHook'),
)

auto_scale_lr = dict(enable=False, base_batch_size=16)  # paper
