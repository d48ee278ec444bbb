_base_ = './mask2former_r50_1xb8-20k_camvid-360x480.py'

model = dict(
    backbone=dict(
        depth=18,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18'),
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
)
