_base_ = './default_runtime.py'

default_scope = 'mmdet'
env_cfg = dict(cudnn_benchmark=False)  # images of many sizes
visualizer = dict(type='DetLocalVisualizer')
tta_model = None
