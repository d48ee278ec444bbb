_base_ = [
    '../_base_/models/faseg_det_r50.py',
    '../_base_/datasets/coco-panoptic-1024x1024.py',
    '../_base_/schedules/schedule_coco_50e.py',
    '../_base_/default_runtime_det.py',
]

num_stuff_classes = 53
crop_size = (1024, 1024)
model = dict(
    data_preprocessor=dict(
        pad_seg=True,
        batch_augments=[
            dict(
                type='BatchFixedSizePad',
                size=crop_size,
                pad_mask=True,
                pad_seg=True,
            )
        ],
    ),
    panoptic_head=dict(num_stuff_classes=num_stuff_classes),
    panoptic_fusion_head=dict(num_stuff_classes=num_stuff_classes),
    test_cfg=dict(panoptic_on=True),
)
default_hooks = dict(
    checkpoint=dict(save_best='coco_panoptic/PQ', rule='greater')
)
