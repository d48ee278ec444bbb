data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(512, 512),
    test_cfg=dict(size_divisor=32),
)
model = dict(
    type='mmfaseg.MaskEncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    decode_head=dict(
        type='mmfaseg.FASegHead',
        in_channels=[256, 512, 1024, 2048],
        num_classes=150,
        feat_channels=256,
        num_queries=100,
        pixel_decoder=dict(
            type='mmfaseg.FASegPixelDecoder',
            num_layers=6,
            num_heads=8,
            num_points=4,
            feedforward_channels=1024,
            norm_cfg=dict(type='GN', num_groups=32),
            positional_encoding=dict(
                type='mmfaseg.ConditionalPositionalEncoding'
            ),
        ),
        transformer_decoder=dict(
            type='mmfaseg.FASegDecoder',
            num_layers=13,  # three cycles of four levels, one more stride 32
            layer=dict(
                type='mmfaseg.DFPQDecoderLayer',
                num_heads=8,
                feedforward_channels=2048,
            ),
            positional_query=dict(
                type='mmfaseg.DynamicFocusAwareQuery',
                init_pool='background',  # required by the released weights
            ),
            masked_attention=dict(  # strides 32, 16 and 8
                type='mmfaseg.MaskedCrossAttention',
                mask_threshold=0.15,  # Mask2Former: 0.5
            ),
            high_res_attention=dict(  # stride 4
                type='mmfaseg.HighResolutionCrossAttention',
                omega=32,  # one of 32 windows
                window_size=8,  # stride 32 / stride 4
            ),
        ),
        loss=dict(
            type='mmfaseg.MaskClassificationLoss',
            loss_cls_weight=2.0,
            loss_mask_weight=5.0,
            loss_dice_weight=5.0,
            no_object_weight=0.1,
            num_points=12544,  # 112 x 112
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
        ),
        ignore_index=255,
        align_corners=False,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole', return_logits=False),
)
