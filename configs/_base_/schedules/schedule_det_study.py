_base_ = './schedule_study.py'

default_hooks = dict(
    checkpoint=dict(save_best='coco/segm_mAP'),
    visualization=dict(_delete_=True, type='DetVisualizationHook'),
)
