# the pipelines are those of ADE20K at other scales
_base_ = './ade20k-512x512.py'

dataset_type = 'MapillaryDataset_v1'
data_root = 'data/mapillary'
# v1.2 without its last class, 'Unlabeled', which becomes 255
# fmt: off
metainfo = dict(classes=(
    'Bird', 'Ground Animal', 'Curb', 'Fence', 'Guard Rail', 'Barrier',
    'Wall', 'Bike Lane', 'Crosswalk - Plain', 'Curb Cut', 'Parking',
    'Pedestrian Area', 'Rail Track', 'Road', 'Service Lane', 'Sidewalk',
    'Bridge', 'Building', 'Tunnel', 'Person', 'Bicyclist', 'Motorcyclist',
    'Other Rider', 'Lane Marking - Crosswalk', 'Lane Marking - General',
    'Mountain', 'Sand', 'Sky', 'Snow', 'Terrain', 'Vegetation', 'Water',
    'Banner', 'Bench', 'Bike Rack', 'Billboard', 'Catch Basin',
    'CCTV Camera', 'Fire Hydrant', 'Junction Box', 'Mailbox', 'Manhole',
    'Phone Booth', 'Pothole', 'Street Light', 'Pole', 'Traffic Sign Frame',
    'Utility Pole', 'Traffic Light', 'Traffic Sign (Back)',
    'Traffic Sign (Front)', 'Trash Can', 'Bicycle', 'Boat', 'Bus', 'Car',
    'Caravan', 'Motorcycle', 'On Rails', 'Other Vehicle', 'Trailer',
    'Truck', 'Wheeled Slow', 'Car Mount', 'Ego Vehicle',
))
# fmt: on
crop_size = (1024, 1024)  # Mask2Former
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(
    scales=[2048 * tenths // 10 for tenths in range(5, 21)], max_size=8192
)
train_pipeline[3].update(crop_size=crop_size)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(2048, 2048))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(2048 * n // 4, 2048 * n // 4), keep_ratio=True)
    for n in range(2, 8)
]
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(
            img_path='training/images',
            seg_map_path='training/v1.2/labels',
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(
            img_path='validation/images',
            seg_map_path='validation/v1.2/labels',
        ),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
