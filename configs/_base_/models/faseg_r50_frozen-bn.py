_base_ = './faseg_r50.py'

model = dict(
    backbone=dict(
        norm_cfg=dict(type='BN', requires_grad=False),  # paper, ADE20K
        norm_eval=True,
    ),
)
