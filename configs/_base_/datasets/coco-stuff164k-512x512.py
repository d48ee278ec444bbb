# the pipelines are those of ADE20K
_base_ = './ade20k-512x512.py'

dataset_type = 'COCOStuffDataset'
data_root = 'data/coco_stuff164k'
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(
            img_path='images/train2017',
            seg_map_path='annotations/train2017',
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(
            img_path='images/val2017',
            seg_map_path='annotations/val2017',
        ),
    ),
)
test_dataloader = val_dataloader
