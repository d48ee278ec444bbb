_base_ = './shapes-128x128.py'

crop_size = (256, 256)
train_dataloader = dict(dataset=dict(image_size=crop_size))
val_dataloader = dict(dataset=dict(image_size=crop_size))
test_dataloader = dict(dataset=dict(image_size=crop_size))
