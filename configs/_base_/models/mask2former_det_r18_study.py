_base_ = './mask2former_r18_study.py'

# mmdet's detector and head; the settings are those of mmseg's
num_things_classes = 4
num_stuff_classes = 0
data_preprocessor = None  # the model's
model = dict(
    _delete_=True,
    type='Mask2Former',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        pad_mask=True,
        mask_pad_value=0,
        pad_seg=False,
        seg_pad_value=255,
    ),
    backbone=_base_.model.backbone,
    panoptic_head=dict(
        type='Mask2FormerHead',
        in_channels=_base_.model.decode_head.in_channels,
        strides=[4, 8, 16, 32],
        feat_channels=64,
        out_channels=64,
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        num_queries=20,
        num_transformer_feat_level=3,
        pixel_decoder=_base_.model.decode_head.pixel_decoder,
        enforce_decoder_input_project=False,
        positional_encoding=_base_.model.decode_head.positional_encoding,
        transformer_decoder=_base_.model.decode_head.transformer_decoder,
        loss_cls=dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=2.0,
            reduction='mean',
            class_weight=[1.0] * num_things_classes + [0.1],
        ),
        loss_mask=_base_.model.decode_head.loss_mask,
        loss_dice=_base_.model.decode_head.loss_dice,
    ),
    panoptic_fusion_head=dict(
        type='MaskFormerFusionHead',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        loss_panoptic=None,
        init_cfg=None,
    ),
    train_cfg=_base_.model.decode_head.train_cfg,
    test_cfg=dict(
        panoptic_on=False,
        semantic_on=False,
        instance_on=True,
        max_per_image=40,
        iou_thr=0.8,
        filter_low_score=True,
    ),
)
