_base_ = './faseg_r50_frozen-bn.py'

# mmdet's detector around the decoders and the loss of the semantic model
num_things_classes = 80
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
        type='mmfaseg.FASegDetHead',
        in_channels=_base_.model.decode_head.in_channels,
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        feat_channels=_base_.model.decode_head.feat_channels,
        num_queries=_base_.model.decode_head.num_queries,
        pixel_decoder=_base_.model.decode_head.pixel_decoder,
        transformer_decoder=_base_.model.decode_head.transformer_decoder,
        loss=_base_.model.decode_head.loss,
    ),
    panoptic_fusion_head=dict(
        type='MaskFormerFusionHead',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        loss_panoptic=None,
        init_cfg=None,
    ),
    train_cfg=dict(),
    test_cfg=dict(
        panoptic_on=False,
        semantic_on=False,
        instance_on=True,
        max_per_image=100,
        iou_thr=0.8,
        filter_low_score=True,  # Mask2Former
    ),
)
