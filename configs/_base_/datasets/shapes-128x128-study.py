_base_ = './shapes-128x128.py'

# COCO's 32**2 and 96**2, for images of a quarter of the height
test_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='mmfaseg.BoundaryIoU'),
    dict(type='mmfaseg.ComponentIoU', areas=(8**2, 24**2), per_class=True),
]
