_base_ = [
    '../_base_/models/faseg_det_r18_study.py',
    '../_base_/datasets/dsb2018-instance-256x256.py',
    '../_base_/schedules/schedule_dsb2018.py',
    '../_base_/default_runtime_det.py',
]

num_things_classes = 1
crop_size = (256, 256)
model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(
                type='BatchFixedSizePad',
                size=crop_size,
                pad_mask=True,
                pad_seg=False,
            )
        ],
    ),
    panoptic_head=dict(
        num_things_classes=num_things_classes,
        num_queries=100,
        transformer_decoder=dict(num_layers=5),  # every level, one more
        # nuclei are so small that few random points would meet one
        loss=dict(num_points=3136, oversample_ratio=1.5),
    ),
    panoptic_fusion_head=dict(num_things_classes=num_things_classes),
    test_cfg=dict(max_per_image=100),
)
