_base_ = './mask2former_r50.py'

num_classes = 7
data_preprocessor = dict(size=(128, 128))
positional_encoding = dict(num_feats=64)
attention = dict(embed_dims=128)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        depth=18,
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=[64, 128, 256, 512],
        num_classes=num_classes,
        feat_channels=128,
        out_channels=128,
        num_queries=20,
        pixel_decoder=dict(
            encoder=dict(
                num_layers=3,
                layer_cfg=dict(
                    self_attn_cfg=attention,
                    ffn_cfg=dict(embed_dims=128, feedforward_channels=512),
                ),
            ),
            positional_encoding=positional_encoding,
        ),
        positional_encoding=positional_encoding,
        transformer_decoder=dict(
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=dict(embed_dims=128, feedforward_channels=512),
            ),
        ),
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
        train_cfg=dict(num_points=784),
    ),
    # labels for the backbone itself, which starts from random weights
    auxiliary_head=dict(
        type='FCNHead',
        in_index=1,
        in_channels=128,
        channels=64,
        num_convs=1,
        num_classes=num_classes,
        norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=10.0),
    ),
)
