custom_imports = dict(imports=['mmfaseg'], allow_failed_imports=False)
default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
# without a name, each run of a process logs to its own folder
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends)
tta_model = dict(type='mmfaseg.MaskClassificationTTA')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
