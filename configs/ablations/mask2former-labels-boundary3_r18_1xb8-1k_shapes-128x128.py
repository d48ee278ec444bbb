_base_ = './mask2former_r18_1xb8-1k_shapes-128x128.py'

# borders are up to three pixels off, in training
train_pipeline = [
    _base_.train_pipeline[0],
    dict(type='mmfaseg.NoisyLabels', kind='boundary', num_classes=7, shift=3),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
