"""A config of plain mmseg that trains in a second: FCN on Shapes."""

custom_imports = dict(imports=['mmfaseg'], allow_failed_imports=False)
default_scope = 'mmseg'
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5] * 3,
        std=[127.5] * 3,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(32, 32),
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        base_channels=4,
        stem_channels=4,
        num_stages=1,
        strides=(1,),
        dilations=(1,),
        out_indices=(0,),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=4,
        channels=4,
        num_convs=1,
        num_classes=7,
        norm_cfg=norm_cfg,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

pipeline = [dict(type='mmfaseg.GenerateShapes'), dict(type='PackSegInputs')]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmfaseg.ShapesDataset',
        length=8,
        image_size=(32, 32),
        pipeline=pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmfaseg.ShapesDataset',
        split='test',
        length=2,
        image_size=(32, 32),
        pipeline=pipeline,
        test_mode=True,
    ),
)
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
tta_pipeline = [
    dict(type='mmfaseg.GenerateShapes'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)],
            [dict(type='PackSegInputs')],
        ],
    ),
]
tta_model = dict(type='SegTTAModel')

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, begin=0, end=4, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
    visualization=dict(type='mmfaseg.DrawSegmentationHook'),
)
custom_hooks = [dict(type='mmfaseg.ExactResumeHook')]
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends)
log_processor = dict(by_epoch=False)
