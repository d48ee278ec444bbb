_base_ = './faseg_r18_shapes.py'

# half as wide, so that a run of all 13 layers takes minutes on a CPU
model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        feat_channels=64,
        pixel_decoder=dict(
            num_layers=1,
            feedforward_channels=256,
            norm_cfg=dict(num_groups=8),
        ),
        transformer_decoder=dict(
            layer=dict(feedforward_channels=256),
            high_res_attention=dict(omega=8),
        ),
        loss=dict(num_points=400),
    ),
    auxiliary_head=dict(in_channels=64),
)
