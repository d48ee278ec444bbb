_base_ = [
    '../_base_/models/faseg_r18_study.py',
    '../_base_/datasets/shapes-128x128.py',
    '../_base_/schedules/schedule_study.py',
    '../_base_/default_runtime.py',
]

test_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='mmfaseg.BoundaryIoU'),
    # pictures are a quarter as high as those of COCO, and so are its bounds
    dict(type='mmfaseg.ComponentIoU', areas=(8**2, 24**2), per_class=True),
]
