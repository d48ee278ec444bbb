_base_ = './shapes-128x128.py'

# pictures are a quarter as high as those of COCO, and so are the bounds
test_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='mmfaseg.BoundaryIoU'),
    dict(type='mmfaseg.ComponentIoU', areas=(8**2, 24**2), per_class=True),
]
