_base_ = './faseg_r50_8xb2-50e_coco-instance-1024x1024.py'

checkpoint = 'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/swin/swin_tiny_patch4_window7_224_20220317-1cdeb081.pth'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmseg.SwinTransformer',  # reads mmseg's weights
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
    ),
    panoptic_head=dict(in_channels=[96, 192, 384, 768]),
)
