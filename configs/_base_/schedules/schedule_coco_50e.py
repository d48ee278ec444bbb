_base_ = './schedule_160k.py'

max_iters = 368750  # 50 epochs of 118,000 images in batches of 16
param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_iters,
        by_epoch=False,
        milestones=[327778, 355092],
        gamma=0.1,
    )
]
train_cfg = dict(
    max_iters=max_iters,
    # once more at the end
    dynamic_intervals=[(max_iters // 5000 * 5000 + 1, max_iters)],
)
default_hooks = dict(
    checkpoint=dict(save_best='coco/segm_mAP'),
    visualization=dict(_delete_=True, type='DetVisualizationHook'),
)
