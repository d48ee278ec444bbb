_base_ = './faseg_det_r50.py'

# the network of faseg_r18_study.py
num_things_classes = 4
model = dict(
    backbone=dict(
        depth=18,
        base_channels=32,
        stem_channels=32,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        init_cfg=None,
    ),
    panoptic_head=dict(
        in_channels=[32, 64, 128, 256],
        num_things_classes=num_things_classes,
        feat_channels=64,
        num_queries=20,
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
    panoptic_fusion_head=dict(num_things_classes=num_things_classes),
    test_cfg=dict(max_per_image=40),
)
