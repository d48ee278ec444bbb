_base_ = './faseg_r50_8xb2-300k_mapillary-v1-65-1024x1024.py'

model = dict(
    test_cfg=dict(mode='slide', crop_size=(1024, 1024), stride=(768, 768)),
)
