_base_ = [
    '../_base_/models/faseg_det_r18_study.py',
    '../_base_/datasets/shapes-panoptic-128x128.py',
    '../_base_/schedules/schedule_det_study.py',
    '../_base_/default_runtime_det.py',
]

num_stuff_classes = 3
model = dict(
    data_preprocessor=dict(pad_seg=True),
    panoptic_head=dict(num_stuff_classes=num_stuff_classes),
    panoptic_fusion_head=dict(num_stuff_classes=num_stuff_classes),
    test_cfg=dict(panoptic_on=True, instance_on=False),
)
max_iters = 3000
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=500)
default_hooks = dict(
    checkpoint=dict(interval=500, save_best='coco_panoptic/PQ', rule='greater')
)
