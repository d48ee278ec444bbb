_base_ = './faseg_r18_1xb8-1k_shapes-128x128.py'

# in training, a fifth of the regions get another class
train_pipeline = [
    _base_.train_pipeline[0],
    dict(type='mmfaseg.NoisyLabels', kind='swap', num_classes=7, rate=0.2),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
