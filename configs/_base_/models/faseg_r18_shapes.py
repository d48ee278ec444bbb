_base_ = './faseg_r50.py'

data_preprocessor = dict(size=(128, 128))
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        depth=18,
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=[64, 128, 256, 512],
        num_classes=7,
        feat_channels=128,
        num_queries=20,
        pixel_decoder=dict(num_layers=3, feedforward_channels=512),
        transformer_decoder=dict(layer=dict(feedforward_channels=512)),
        loss=dict(num_points=784),  # of 1,024 mask pixels, as 12,544 of 16,384
    ),
    # labels for the backbone itself, which starts from random weights
    auxiliary_head=dict(
        type='FCNHead',
        in_index=1,
        in_channels=128,
        channels=64,
        num_convs=1,
        num_classes=7,
        norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=10.0),
    ),
)
