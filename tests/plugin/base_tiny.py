"""FASeg on 64x64 images that trains in seconds."""

_base_ = '../../configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'

custom_imports = dict(
    imports=['mmfaseg', 'my_parts'], allow_failed_imports=False
)
data_preprocessor = dict(size=(64, 64))
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(base_channels=8, stem_channels=8),
    decode_head=dict(
        in_channels=[8, 16, 32, 64],
        feat_channels=16,
        num_queries=8,
        pixel_decoder=dict(
            num_heads=2, feedforward_channels=32, norm_cfg=dict(num_groups=4)
        ),
        transformer_decoder=dict(
            layer=dict(num_heads=2, feedforward_channels=32),
            high_res_attention=dict(omega=2),
        ),
    ),
    auxiliary_head=dict(in_channels=16),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(length=8, image_size=(64, 64)),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(length=2, image_size=(64, 64)),
)
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(length=2, image_size=(64, 64)),
)
max_iters = 4
param_scheduler = []
train_cfg = dict(max_iters=max_iters, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
