_base_ = './faseg_swin-l-in22k-384x384-pre_8xb2-90k_cityscapes-512x1024.py'

model = dict(
    test_cfg=dict(mode='slide', crop_size=(1024, 1024), stride=(768, 768)),
)
