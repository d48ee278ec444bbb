_base_ = [
    '../_base_/models/faseg_det_r50.py',
    '../_base_/datasets/coco-instance-1024x1024.py',
    '../_base_/schedules/schedule_coco_50e.py',
    '../_base_/default_runtime_det.py',
]

crop_size = (1024, 1024)
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
)
