_base_ = './faseg_r50_1xb8-20k_camvid-360x480.py'

# pip install mmpretrain torchvision; this replaces the parent's custom_imports
custom_imports = dict(
    imports=['mmfaseg', 'mmpretrain.models'], allow_failed_imports=False
)
# ConvNeXt cuts off what 32 does not divide
data_preprocessor = dict(size=(384, 480))
checkpoint = 'https://download.openmmlab.com/mmclassification/v0/convnext/downstream/convnext-tiny_3rdparty_32xb128-noema_in1k_20220301-795e9634.pth'
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ConvNeXt',
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3,
        layer_scale_init_value=1.0,
        gap_before_final_norm=False,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
        ),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
)
